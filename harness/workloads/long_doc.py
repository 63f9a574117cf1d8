"""Questions about long documents: each prompt is one document and, behind it, one question."""

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from harness.workloads._fit import FittedOptions, fit_prompts, refuse_too_many, rounding_notes, with_notes
from harness.workloads.base import DataSet, Limits, Prompt, Tokens, Workload, WorkloadOptions, token_block


class LongDocOptions(FittedOptions):
    """Options of ``long_doc``."""

    documents: int = Field(4, ge=1, description="documents")
    document: Tokens = Field(4096, ge=1, description="tokens of a document, which is the hit")
    questions: int = Field(4, ge=1, description="questions about each document")
    question: Tokens = Field(64, ge=1, description="tokens of a question")
    output: int = Field(4, ge=1, description="tokens to generate for each question")
    seed: int = Field(0, description="another seed gives other tokens")


class LongDoc(Workload):
    """All questions about one document, then those about the next.

    Unlike ``shared_prefix``, whose groups take turns, a document's questions follow one another, as when
    somebody reads it. The hit is the document for every question, the first too: the store is primed.
    """

    name: ClassVar[str] = "long_doc"
    Options: ClassVar[type[WorkloadOptions]] = LongDocOptions
    options: LongDocOptions

    def build(self, limits: Limits) -> DataSet:
        """All prompts in sending order. Raises UsageError where they don't fit the model."""
        o = self.options
        tokens = o.documents * o.questions * (o.document + o.question)
        refuse_too_many(tokens, self.name, "smaller documents=, questions=, document= or question=")
        data = fit_prompts(self._prompts(limits), limits, o.over_long, self.name, "a smaller document= or question=")
        return with_notes(data, rounding_notes("A document", o.document, limits))

    def _prompts(self, limits: Limits) -> Iterator[Prompt]:
        o = self.options
        root = f"{o.seed}/{self.name}"
        for d in range(o.documents):
            document = tuple(token_block(f"{root}/document/{d}", o.document, limits.vocabulary).tolist())
            for q in range(o.questions):
                question = token_block(f"{root}/question/{d}/{q}", o.question, limits.vocabulary).tolist()
                yield Prompt(f"d{d}q{q}", (*document, *question), o.document, o.output)
