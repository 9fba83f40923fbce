"""What a request, a client and all of them together may use."""

from dataclasses import dataclass

__all__ = ["KEEP_ALIVE_SECONDS", "MAX_HEAD_BYTES", "MAX_PIXELS", "Limits"]

#: Bytes of the request line and the headers.
MAX_HEAD_BYTES = 64 << 10

#: Pixels of a picture before it is resized: that of a large camera.
MAX_PIXELS = 50_000_000

#: Seconds that a connection stays open without a request.
KEEP_ALIVE_SECONDS = 75

#: Bodies of maximum size that are in memory at a time, at most.
_BODIES = 4


@dataclass(frozen=True)
class Limits:
    """Limits that the user may choose.

    Attributes
    ----------
    body_bytes : int
        Of a request. The bodies of all requests that are being read or answered may have four times
        as many.
    rows : int
        Of a request.
    receive_seconds : float
        Until a request has arrived, from its first byte to its last.
    predict_seconds : float
        Until a request that has arrived is answered.
    connections : int
        Open at the same time.
    """

    body_bytes: int = 64 << 20
    rows: int = 100_000
    receive_seconds: float = 30.0
    predict_seconds: float = 60.0
    connections: int = 512

    @property
    def all_bodies_bytes(self) -> int:
        """Bytes of the bodies of all requests at a time."""
        return _BODIES * self.body_bytes
