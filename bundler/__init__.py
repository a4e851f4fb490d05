"""The connected side: sources, fetching, encoding, assembling, signing, and the `bundle` program."""
