"""``s3://bucket/prefix``: one object of Amazon S3, or of any server that speaks its protocol, per object."""

from harness.stores.s3.store import S3Store

__all__ = ["S3Store"]
