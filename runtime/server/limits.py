"""What one request may take, and how many are worked on at once."""

from dataclasses import dataclass

from runtime.images import MAXIMUM_PIXELS


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of a body, pixels of a picture, pictures of a request; inferences at once, and how many may wait."""

    body_bytes: int = 64 * 1024 * 1024
    image_pixels: int = MAXIMUM_PIXELS
    batch: int = 64
    concurrent: int = 2
    waiting: int = 256
