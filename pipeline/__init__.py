"""The library behind the launcher and its workers; nothing in here imports a worker."""
