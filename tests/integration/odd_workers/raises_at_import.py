"""Lacks something that it needs."""

raise RuntimeError("the weights are not there")
