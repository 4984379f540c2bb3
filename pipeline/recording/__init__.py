"""What a pipeline was fed and what it made of it, in a file: written while it runs, and fed to it again."""
