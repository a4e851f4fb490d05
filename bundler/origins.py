"""Which blob an address gave last: so that a file without a digest is not downloaded for every manifest that names it.

* Remembered by address and strong ETag, as a member of its address: what two files of one address and ETag are, HTTP
  says, is the same bytes.
* The source is asked each time which ETag it has now; only a file of this very ETag is taken out of the store.
"""

from collections.abc import Mapping
from typing import Protocol

from bundler.http import BrokenOffError, Client
from bundler.sources.base import Found, Remote
from bundler.sources.urls import host_of
from manifests.digest import Digest
from manifests.errors import SourceError
from manifests.recipe import Recipe
from manifests.store import Store


class Brought(Protocol):
    """What a download gave: the blob, and the pin that its transfer told."""

    @property
    def recipe(self) -> Recipe:
        """The blob."""

    @property
    def pin(self) -> Mapping[str, str]:
        """ETag and Last-Modified."""


def record(store: Store, found: Found, place: Remote, brought: Brought) -> None:
    """Remember what was downloaded from `place`, if its source names its version."""
    etag = _strong(found.pin or brought.pin)
    if etag:
        store.record_member(_address(found, place), etag, brought.recipe.digest)


def find(
    store: Store, client: Client, found: Found, place: Remote, *, subject: str
) -> tuple[Recipe, Mapping[str, str]] | None:
    """The blob that `place` would give, if the store has it, and the pin that a download would have told.

    Only where something is remembered is the source asked; what it does not answer is for the download to say.
    """
    address = _address(found, place)
    if not store.knows_members(address):
        return None
    pin = found.pin or _asked(client, place, subject=subject)
    etag = _strong(pin)
    digest = store.find_member(address, etag) if etag else None
    recipe = None if digest is None else store.find(digest)
    return None if recipe is None else (recipe, {} if found.pin else pin)


def _asked(client: Client, place: Remote, *, subject: str) -> Mapping[str, str]:
    url = place.fresh() if place.fresh else place.url
    try:
        with client.request("HEAD", url, subject=subject, authorization=place.authorization) as response:
            if response.status_code != 200:
                return {}
            named = {
                "etag": response.headers.get("ETag", ""),
                "last-modified": response.headers.get("Last-Modified", ""),
            }
            return {name: value for name, value in named.items() if value}
    except (BrokenOffError, SourceError):
        return {}


def _address(found: Found, place: Remote) -> Digest:
    return Digest.of(f"{found.reference.container} at {host_of(place.url)}".encode())


def _strong(pin: Mapping[str, str]) -> str:
    etag = pin.get("etag", "")
    return "" if etag.startswith("W/") else etag
