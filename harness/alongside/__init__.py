"""Arms that need a vLLM of their own (harness/peers/), measured alongside ours in one job, run by run in turns."""

from harness.alongside.driver import measure

__all__ = ["measure"]
