"""A program that is killed at a chosen one of its writes: what a power cut is tried with."""

from collections.abc import Iterable


def killed_at(point: str, calls: Iterable[str], body: str) -> str:
    """Python that runs `body` and prints how many calls it made; or that kills itself at the call numbered `point`.

    Counted are the functions of `os` named in `calls`; what `body` imports is imported before they are.
    """
    imports = [line for line in body.splitlines() if line.startswith(("from ", "import "))]
    rest = [line for line in body.splitlines() if line not in imports]
    return f"""
import os, sys, signal
from pathlib import Path
{chr(10).join(imports)}
count, point = 0, int({point})
def counted(name):
    real = getattr(os, name)
    def call(*a, **k):
        global count
        count += 1
        if count == point:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*a, **k)
    setattr(os, name, call)
for name in {tuple(calls)!r}:
    counted(name)
{chr(10).join(rest)}
print(count)
"""
