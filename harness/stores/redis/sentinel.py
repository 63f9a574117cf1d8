"""Which server is the primary, as Redis' sentinels say.

The protocol for clients: https://redis.io/docs/latest/develop/reference/sentinel-clients/
"""

from harness.core.errors import StoreUnavailable, TtftError, UsageError
from harness.stores.redis.address import Address, Location, Login
from harness.stores.redis.clients import client, client_errors
from harness.stores.redis.errors import explain_opening


class Sentinels:
    """Those at ``location.addresses``. Not thread-safe."""

    def __init__(self, location: Location, login: Login) -> None:
        self._name, self._login = location.primary, login.of_sentinels()
        self._addresses = list(location.addresses)

    def primary(self) -> Address:
        """What the first sentinel says that knows one; it is asked first from now on.

        Raises StoreUnavailable where none does, UsageError where that is a mistake of the user's, with the first reason.
        """
        reasons: list[TtftError] = []
        for address in self._addresses:
            try:
                found = self._ask(address)
            except TtftError as error:
                reasons.append(error)
                continue
            self._addresses.sort(key=lambda item: item != address)
            return found
        first = min(reasons, key=lambda error: not isinstance(error, UsageError))
        others = " (and no other sentinel helps)" if len(reasons) > 1 else ""
        raise (UsageError if isinstance(first, UsageError) else StoreUnavailable)(f"{first}{others}")

    def _ask(self, address: Address) -> Address:
        asked = client(address, self._login, 1)
        try:
            found = asked.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", self._name)  # its method changes between versions
        except client_errors() as error:
            raise explain_opening(error, address, self._login) from None
        finally:
            asked.close()
        if not found:
            raise UsageError(
                f"the sentinel at {address} knows no primary '{self._name}'; "
                "write the name that stands behind 'sentinel monitor' in its configuration"
            )
        host, port = found
        return Address(host.decode() if isinstance(host, bytes) else str(host), int(port))
