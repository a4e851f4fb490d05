"""What one request may take, what all may take together, and how many are worked on at once."""

from dataclasses import dataclass

from runtime.images import MAXIMUM_PIXELS


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a server.

    Of one request: bytes and seconds of its body, pixels of a picture and of all its pictures, pictures. Of all:
    bytes of the bodies that are held, inferences at once, and how many may wait.
    """

    body_bytes: int = 64 * 1024 * 1024
    body_seconds: float = 60
    image_pixels: int = MAXIMUM_PIXELS
    request_pixels: int = 256_000_000
    batch: int = 64
    held_bytes: int = 256 * 1024 * 1024
    concurrent: int = 2
    waiting: int = 256
