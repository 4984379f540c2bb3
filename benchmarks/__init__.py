"""One command each; every figure as a ratio against a named peer or floor in the same run."""
