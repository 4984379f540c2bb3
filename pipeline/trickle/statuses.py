"""The statuses that mean something particular in trickle, or that its clients act on: one list for both ends."""

STATUS_NO_SEGMENT = 470
"""The channel is there, the segment is not; the reply says which number is next."""

DENIED_STATUSES = (401, 403)
BUSY_STATUSES = (429, 503)
"""The server would take the request at another time."""
