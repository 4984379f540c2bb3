"""What frame memory does on a GPU, in one unattended run: `python -m benchmarks.gpu`. See README.md here."""
