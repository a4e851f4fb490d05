"""The air-gapped side: trust, install, cache layouts, negotiation, models, server. It imports no network client."""

from runtime.api import AutoModel, get_model

__all__ = ["AutoModel", "get_model"]
