"""What `benchmarks.handoff` compares: ways of handing a frame from one process to another, one file a family."""
