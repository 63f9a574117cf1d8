"""Conversations: every turn sends the whole history again, and a new message behind it."""

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from harness.workloads._fit import FittedOptions, fit_prompts, refuse_too_many
from harness.workloads.base import DataSet, Limits, Prompt, Tokens, Workload, WorkloadOptions, token_block


class MultiTurnOptions(FittedOptions):
    """Options of ``multi_turn``."""

    conversations: int = Field(4, ge=1, description="conversations that go on side by side")
    turns: int = Field(4, ge=1, description="turns of each conversation")
    system: Tokens = Field(1024, ge=0, description="tokens of the system prompt, the same in all conversations")
    user: Tokens = Field(128, ge=1, description="tokens of a user's message")
    answer: Tokens = Field(256, ge=0, description="tokens of an answer in the history (synthesised, not what the model said)")
    output: int = Field(4, ge=1, description="tokens to generate for each turn")
    seed: int = Field(0, description="another seed gives other tokens")


class MultiTurn(Workload):
    """``conversations`` times ``turns`` requests, the conversations taking turns.

    The rule for the hit: what earlier requests had as *prompt* is stored, and nothing else. A synthesised
    answer is not what the model generated, so its KV comes into the store only with the prompt of the next
    turn. Turn t > 1 hits the prompt of turn t-1; turn 1 hits the system prompt, except in the very first request.
    """

    name: ClassVar[str] = "multi_turn"
    Options: ClassVar[type[WorkloadOptions]] = MultiTurnOptions
    options: MultiTurnOptions

    def build(self, limits: Limits) -> DataSet:
        """All prompts in sending order. Raises UsageError where not even a first turn fits the model."""
        o = self.options
        tokens = o.conversations * o.turns * (o.system + (o.user + o.answer) * (o.turns + 1) // 2)
        refuse_too_many(tokens, self.name, "smaller conversations=, turns=, system=, user= or answer=")
        return fit_prompts(self._prompts(limits), limits, o.over_long, self.name, "a smaller system=, user= or answer=")

    def _prompts(self, limits: Limits) -> Iterator[Prompt]:
        o = self.options
        system = self._part("system", o.system, limits)
        histories = [system] * o.conversations
        stored = [0] + [o.system] * (o.conversations - 1)
        for turn in range(o.turns):
            for c, history in enumerate(histories):
                tokens = history + self._part(f"user/{c}/{turn}", o.user, limits)
                yield Prompt(f"c{c}t{turn}", tokens, stored[c], o.output)
                stored[c] = len(tokens)
                histories[c] = tokens + self._part(f"answer/{c}/{turn}", o.answer, limits)

    def _part(self, what: str, count: int, limits: Limits) -> tuple[int, ...]:
        return tuple(token_block(f"{self.options.seed}/{self.name}/{what}", count, limits.vocabulary).tolist())
