"""redis-py's clients as we use them: no second try that would hide in what is measured, and a bound for each wait."""

from typing import Any

from harness.core.errors import SetupError
from harness.stores.redis.address import Address, Login
from harness.stores.redis.wire import FAILURES

_CLUSTER_TRIES = 2
_CLUSTER_PAUSE_S = 0.1


def client_errors() -> tuple[type[Exception], ...]:
    """What a client may raise. Raises SetupError without the package redis."""
    try:
        from redis import exceptions
    except ImportError:
        raise SetupError("redis stores need the package redis; install it: pip install 'redis>=6.4'") from None
    return exceptions.RedisError, exceptions.RedisClusterException, *FAILURES


def _settings(login: Login) -> dict[str, Any]:
    tls = (
        {"ssl_ca_certs": login.authority, "ssl_certfile": login.client_cert, "ssl_keyfile": login.client_cert}
        if login.tls
        else {}
    )
    return {
        "username": login.username or None,
        "password": login.password or None,
        "socket_timeout": login.timeout_s,
        "socket_connect_timeout": login.timeout_s,
        "protocol": 2,
        **{name: file or None for name, file in tls.items()},
    }


def client(address: Address, login: Login, connections: int) -> Any:
    """Of one server, with at most so many connections; further calls wait."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    settings = {
        **_settings(login),
        **({"path": address.host} if address.is_path else {"host": address.host, "port": address.port}),
        "db": login.database,
        "connection_class": _connection_class(address, login),
        "max_connections": connections,
        "timeout": None,  # of the wait for a free connection; each use of one is bounded
        "retry": Retry(NoBackoff(), 0),  # a second try would hide in what is measured
    }
    return redis.Redis.from_pool(redis.BlockingConnectionPool(**settings))  # type: ignore[no-untyped-call]


def _connection_class(address: Address, login: Login) -> Any:
    import redis

    if address.is_path:
        return redis.UnixDomainSocketConnection
    return redis.SSLConnection if login.tls else redis.Connection


def cluster_client(address: Address, login: Login) -> Any:
    """Of the cluster that the server belongs to. Connects, and raises what redis-py raises."""
    import redis
    from redis.backoff import ConstantBackoff
    from redis.retry import Retry

    settings = _settings(login) | ({"ssl": True} if login.tls else {})
    retry = Retry(ConstantBackoff(_CLUSTER_PAUSE_S), _CLUSTER_TRIES)
    return redis.RedisCluster(host=address.host, port=address.port, retry=retry, **settings)
