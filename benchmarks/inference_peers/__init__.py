"""What runs in the interpreters of `benchmarks.inference`."""
