"""Threads for what takes long, so that the event loop always answers.

* At most so many inferences run at once, and at most so many wait: the next one is told to come back.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from starlette.exceptions import HTTPException

T = TypeVar("T")


class Workers:
    """A bounded crew of threads. Belongs to one event loop."""

    def __init__(self, *, concurrent: int, waiting: int) -> None:
        self._limiter = anyio.CapacityLimiter(concurrent)
        self._room = concurrent + waiting
        self._present = 0

    async def run(self, work: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Run `work` in a thread. A full queue is answered with 503."""
        if self._present >= self._room:
            raise HTTPException(503, f"{self._present} requests are worked on or waiting already")
        self._present += 1
        try:
            return await anyio.to_thread.run_sync(partial(work, *arguments, **options), limiter=self._limiter)
        finally:
            self._present -= 1
