"""One file a client family: which names lead to which blobs."""
