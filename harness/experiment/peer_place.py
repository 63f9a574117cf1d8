"""Where a peer keeps its data: below the experiment's own store, so on the same disk."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import xxhash

from harness.experiment.setting import Setting
from harness.peers.base import Place


def place_of(setting: Setting, folder: Path) -> Place:
    """For the run in ``folder``; two runs never share one."""
    store = Path(unquote(urlsplit(setting.experiment.store).path))
    name = xxhash.xxh3_64_hexdigest(str(folder.resolve()).encode())
    return Place(store.resolve() / "peers" / name, setting.experiment.chunk_tokens)
