"""OCI registries: names, credentials, the distribution protocol, and bundles that go there and come back."""
