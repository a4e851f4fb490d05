"""Buckets that speak S3: `s3://BUCKET/KEY` is one object, `s3://BUCKET/PREFIX/` every object below it."""

from bundler.sources.s3.buckets import BucketSource

__all__ = ["BucketSource"]
