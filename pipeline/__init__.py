"""The library behind the launcher and its workers; nothing in here imports a worker."""

__version__ = "0.1.0"
