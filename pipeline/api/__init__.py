"""What other programs may ask of a running pipeline over HTTP."""
