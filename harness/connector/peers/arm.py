"""A peer as an arm: what ``--arm`` calls it."""

from dataclasses import dataclass

from harness.connector.peers import PEERS
from harness.connector.peers.base import Peer, PeerOptions, Place
from harness.connector.settings import refuse_password
from harness.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class PeerArm:
    """One peer with its options, under the text by which users pick it. ``engine`` as an arm of ours has it."""

    name: str
    engine: type[Peer]
    options: PeerOptions

    def at(self, place: Place) -> Peer:
        """The peer that works there."""
        return self.engine(self.options, place)


def parse_peer(text: str) -> PeerArm:
    """``lmcache:mode=layerwise`` as an arm; ``...@label`` makes a second one of the same settings. Raises UsageError."""
    refuse_password(text)
    spec, _, label = text.partition("@")
    if set(label) & set(",:=/"):
        raise UsageError(
            f"what follows @ in the arm {text} is its label, and '{label}' looks like part of a value; put a value with an @ "
            "into an environment variable and write $NAME for it"
        )
    peer = PEERS.get(spec.partition(":")[0].strip())
    return PeerArm(text, peer, peer.parse(spec))
