"""The same work on a picture, done by our parts and by others: what `benchmarks.media` compares."""
