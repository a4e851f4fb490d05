"""Keeping the builder's store: what is in it, whether it is whole, and what may go."""
