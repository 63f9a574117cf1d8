"""Ideal prefix hits: how much of a prompt a cache that never forgets would hold, given all earlier requests. Pure."""

from collections.abc import Sequence

from harness.core.chunks import ChunkKey, chain

_ROOT = bytes(16)
"""Keys made here are compared with one another only, so they need no identity."""


class SeenChunks:
    """Remembers prompts by the whole chunks of their tokens."""

    def __init__(self, chunk_tokens: int) -> None:
        self._chunk_tokens = chunk_tokens
        self._keys: set[ChunkKey] = set()

    def visit(self, tokens: Sequence[int]) -> int:
        """Leading tokens of the prompt that earlier prompts had, in whole chunks; then remembers the prompt.

        Raises ValueError as ``keys.chain`` does.
        """
        keys = chain(_ROOT, tokens, self._chunk_tokens)
        hit = next((i for i, key in enumerate(keys) if key not in self._keys), len(keys))
        self._keys.update(keys)
        return hit * self._chunk_tokens


class SeenBlocks:
    """Remembers requests of a trace by the ids of their blocks, without any tokens.

    A block counts only behind the same blocks as before (a trie), since KV depends on all that stands
    in front: a trace whose ids name a block alone, not its prefix, gets no hits that it should not have.
    """

    def __init__(self, block_tokens: int) -> None:
        self._block_tokens = block_tokens
        self._nodes: dict[tuple[int, int], int] = {}
        self._short: dict[int, int] = {}
        """Tokens of each block that was only ever the partial end of a request."""

    def visit(self, ids: Sequence[int], tokens: int) -> int:
        """Leading tokens of the request that earlier requests had; then remembers the request.

        ``tokens`` is the request's length and fills all ``ids`` but perhaps the last. A partial block
        hits for as many tokens as the longest earlier request had of it.
        """
        node, hit, matching = 0, 0, True
        for position, name in enumerate(ids):
            want = min(self._block_tokens, tokens - position * self._block_tokens)
            child = self._nodes.get((node, name))
            if child is None:
                child = self._nodes[node, name] = len(self._nodes) + 1
                had = 0
            else:
                had = self._short.get(child, self._block_tokens)
            if matching:
                hit += min(want, had)
                matching = had >= want
            if had < want:
                self._remember(child, want)
            node = child
        return hit

    def _remember(self, node: int, tokens: int) -> None:
        if tokens == self._block_tokens:
            self._short.pop(node, None)
        else:
            self._short[node] = tokens
