"""What inference can run on a frame."""
