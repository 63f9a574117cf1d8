"""What only a Mooncake master's HTTP server tells: which objects there are."""

import http.client
import urllib.error
import urllib.request

from harness.errors import StoreUnavailable


def names_at(host: str, port: int, timeout_s: float) -> list[str]:
    """The names of all objects in the cluster. Raises StoreUnavailable where that is no master's server."""
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/get_all_keys"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=timeout_s) as reply:
            return str(reply.read(), errors="replace").splitlines()
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise StoreUnavailable(
            f"cannot list the keys of the Mooncake cluster: {address} does not answer ({reason}); "
            "set admin_port= to the --metrics_port of mooncake_master"
        ) from None
