"""The contestants of `benchmarks.end_to_end`, and what plays to them, watches them and looks at what they use."""
