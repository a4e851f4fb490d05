"""Progress is an observer: long work tells a `Reporter` what it does; by default nobody listens."""

from typing import Protocol


class Reporter(Protocol):
    """Told of long work as it goes. Called from any thread."""

    def expected(self, files: int, size: int | None) -> None:
        """`files` more pieces of work are to come, with `size` bytes together if that is known: for a total."""

    def started(self, name: str, total: int | None) -> None:
        """Work on `name` begins; `total` bytes, if that is known."""

    def advanced(self, name: str, size: int) -> None:
        """`size` more bytes of `name` are done."""

    def finished(self, name: str) -> None:
        """Work on `name` has ended, well or not."""

    def note(self, text: str) -> None:
        """Something that a person may want to read, in one line."""


class Silent:
    """Nobody listens."""

    def expected(self, files: int, size: int | None) -> None:
        """Nothing."""

    def started(self, name: str, total: int | None) -> None:
        """Nothing."""

    def advanced(self, name: str, size: int) -> None:
        """Nothing."""

    def finished(self, name: str) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""
