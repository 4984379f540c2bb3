"""What media code raises. Damage in a live stream is counted and never raised; these are mistakes a person can fix."""


class MediaError(ValueError):
    """Root of the errors of this package."""


class EncoderError(MediaError):
    """An encoder, or its preset, options or picture size, was refused."""


class MediaFileError(MediaError):
    """A media file is missing, is no media, or lacks what is asked of it."""
