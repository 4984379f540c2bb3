"""The trickle clients that `benchmarks.trickle` compares, each behind the same few names, and what measures them."""
