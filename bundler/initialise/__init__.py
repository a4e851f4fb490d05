"""From files, folders and sources to a commented manifest: what they say of themselves, what their owner decides."""

from bundler.initialise.drafting import draft
from bundler.initialise.entries import Draft
from bundler.initialise.remote import Surroundings

__all__ = ["Draft", "Surroundings", "draft"]
