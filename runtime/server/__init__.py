"""HTTP only: one router a protocol, limits, error to status."""
