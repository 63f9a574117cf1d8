"""From the text of an arm to an arm: ours, or a peer's."""

from harness.connector.settings import Arm, parse_arm
from harness.engines import ENGINES
from harness.errors import UsageError, known
from harness.peers import PEERS
from harness.peers.arm import PeerArm, parse_peer


def parse_any(text: str) -> Arm | PeerArm:
    """An engine of ours by preference. Raises UsageError."""
    name = text.partition("@")[0].partition(":")[0].strip()
    try:
        ENGINES.get(name)
    except UsageError:
        peers = PEERS.all()
        if name in peers:
            return parse_peer(text)
        raise known("engine", name, [*ENGINES.all(), *peers]) from None
    return parse_arm(text)
