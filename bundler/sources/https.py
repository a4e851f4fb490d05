"""Plain web addresses, `https://` and `http://`.

Such a source says nothing beforehand: no digest, no size. What identifies the file (ETag, Last-Modified) comes with
the download, and its digest after it.
"""

from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from bundler.sources.base import Found, Remote
from bundler.sources.reference import Reference


class WebSource:
    """Files at their URLs."""

    def find(self, reference: Reference, pin: Mapping[str, str]) -> Found:  # noqa: ARG002 - the digest is its pin
        """The file at the URL; nobody is asked until it is fetched."""
        url = f"{reference.scheme}://{reference.location}"
        name = unquote(urlsplit(url).path.rpartition("/")[2]) or "index"
        return Found(reference, name, Remote(url))

    def list(self, reference: Reference, pin: Mapping[str, str]) -> tuple[Found, ...]:
        """The one file."""
        return (self.find(reference, pin),)
