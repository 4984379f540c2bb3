"""What a program that uses a node can meet. Each text says what happened, where, and what to do."""


class ClientError(Exception):
    """Base of all failures that this package raises on purpose."""


class ServerUnreachable(ClientError):
    """Nothing answers where the service should be, or not in time, or it cannot be trusted."""


class UnexpectedAnswer(ClientError):
    """Something answers that is not this service, or does not speak as it does."""


class StreamRefused(ClientError):
    """The service says no. `status` is the HTTP status, `problem` its words, `path` the field that it is about,
    `allowed` what may stand there, and `code` why in a word (exists, full, loading, invalid, unknown, busy); each is
    empty where the service does not say."""

    def __init__(
        self, request: str, status: int, problem: str, path: str = "", allowed: str = "", code: str = ""
    ) -> None:
        field = f"{path}: " if path and not problem.startswith(path) else ""
        hint = f"; allowed: {allowed}" if allowed and allowed not in problem else ""
        super().__init__(f"{request}: status {status}: {field}{problem}{hint}")
        self.status = status
        self.problem = problem
        self.path = path
        self.allowed = allowed
        self.code = code


class TokenRefused(StreamRefused):
    """The service wants a bearer token, or another one (401), or does not let this one do it (403)."""


class ChannelUnavailable(ClientError):
    """A media, event or data channel cannot be read or written."""
