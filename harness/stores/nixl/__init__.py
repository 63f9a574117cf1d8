"""``nixl:///path``: the files of ``file://``, read by NIXL without Python's lock."""

from harness.stores.nixl.store import NixlStore

__all__ = ["NixlStore"]
