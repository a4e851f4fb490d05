"""The steps from a manifest to a lock: what is asked, what stays as it was locked, and what a source gives."""
