"""Which server is the primary, as Redis' sentinels say.

The protocol for clients: https://redis.io/docs/latest/develop/reference/sentinel-clients/
"""

from typing import Any

from harness.core.errors import StoreUnavailable, TtftError, UsageError
from harness.core.text import shortened
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
        return address_in(found, self._name, address)


def address_in(reply: Any, name: str, sentinel: Address) -> Address:
    """The address in a sentinel's reply about primary ``name``. Raises UsageError where it knows none, StoreUnavailable for a
    reply that is no address."""
    if not reply:
        raise UsageError(
            f"the sentinel at {sentinel} knows no primary '{name}'; "
            "write the name that stands behind 'sentinel monitor' in its configuration"
        )
    try:
        host, port = reply
        found = Address(host.decode() if isinstance(host, bytes) else str(host), int(port))
        found.host.encode("idna")  # or connecting would raise what is no error of a connection
        if 0 < found.port < 65536:
            return found
    except (TypeError, ValueError, OverflowError):
        pass
    raise StoreUnavailable(f"the sentinel at {sentinel} names {shortened(repr(reply), 100)} as its primary, which is no address")
