"""``redis://``, ``rediss://`` (TLS), both with ``+cluster`` or ``+sentinel``, and ``redis+unix://``: one string an object.

Valkey answers to them as well.
"""

from harness.stores.redis.store import RedisStore, RedisTlsStore

__all__ = ["RedisStore", "RedisTlsStore"]
