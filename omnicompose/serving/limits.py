"""What a server accepts: where it listens, how much a request may hold, how many may wait."""

from dataclasses import dataclass, field

from omnicompose.media_limits import Extent

LOOPBACK = "127.0.0.1"
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOptions:
    """How a server runs.

    Attributes:
        host: the address to listen at; by default only this machine reaches it.
        port: 0 for any free one.
        device: where to compute.
        body_bytes: largest request.
        media_items: most media in one request.
        media_bytes: largest medium, as a file.
        extent: most that a medium may hold once decoded.
        text_characters: longest text of a request, all messages together.
        new_tokens: longest answer.
        waiting: requests that may wait for the model; more are told to come again.
        seconds: time for one answer, after which it ends where it is.
        grace_seconds: time for the answers under way once the server is told to stop.
    """

    host: str = LOOPBACK
    port: int = 8000
    device: str = "cpu"
    body_bytes: int = 64 * MIB
    media_items: int = 16
    media_bytes: int = 32 * MIB
    extent: Extent = field(
        default_factory=lambda: Extent(
            pixels=50_000_000,
            samples=600 * 48_000 * 2,
            frames=20_000,
            clip_pixels=20_000_000_000,
        )
    )
    text_characters: int = 100_000
    new_tokens: int = 1024
    waiting: int = 64
    seconds: float = 300.0
    grace_seconds: float = 10.0
