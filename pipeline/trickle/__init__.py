"""Trickle: segmented publish/subscribe over HTTP, client and server."""
