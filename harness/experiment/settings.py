"""An experiment's settings: defaults, then the TOML file, then the flags. One rule merges them.

A later source replaces a setting as a whole; nothing is merged inside a setting, so ``--arm`` given once or more replaces
all arms of the file. Only a key with a dot, such as workload.suffix, changes a part of one (experiment/dotted.py).
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from harness.core.errors import UsageError, known
from harness.core.options import Options, parse_options, split_spec
from harness.core.text import printable, shortened, without_secrets

LONGEST_TOML = 1 << 16
"""Characters of an experiment."""


class Experiment(Options):
    """Everything that decides what is measured. Field names are the TOML keys."""

    question: str = Field("", description="what the experiment answers, in one sentence")
    workload: str = Field("shared_prefix", description="workload spec, name:option=value,...")
    store: str = Field("file://~/.cache/ttft/kv", description="URL of the store")
    arms: list[str] = Field(
        default=["chunkwise:pool=0", "chunkwise:pool=8", "layerwise:depth=4"],
        min_length=1,
        description="engine specs; the first one is what the others are compared with",
    )
    bounds: bool = Field(True, description="measure the bounding arms floor and recompute as well")
    recompute_rounds: int = Field(2, ge=1, description="rounds in which recompute runs; it is slow and only a bound")
    pairs: int = Field(6, ge=1, le=10_000, description="rounds; a round is one run of every arm")
    cache_state: Literal["primed", "natural"] = Field(
        "primed", description="primed: measured runs only load; natural: each run starts empty"
    )
    page_cache: Literal["warm", "dropped"] = Field(
        "warm", description="state of the operating system's page cache before each request"
    )
    concurrency: int = Field(1, ge=1, le=1024, description="requests in flight, in a closed loop")
    arrivals: str = Field(
        "closed", description="closed, or an open loop: constant|poisson:rate=2, gamma:rate=2,burstiness=0.5, ramp, trace:speed=2"
    )
    neighbours: int = Field(
        0, ge=0, le=256, description="requests that decode beside every run; the gaps of their tokens are kept"
    )
    probe_every_s: float = Field(0.0, ge=0, description="seconds between short prompts beside every run; 0: none")
    slo: str = Field("", description="objectives that a good request meets, such as ttft:300ms,tpot:60ms (also itl, e2e)")
    model: str = Field("builtin", description="builtin[:option=value,...], a local folder, or a hub name")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="auto: what this processor computes fastest"
    )
    max_model_len: int = Field(
        0, ge=0, description="longest prompt and output together, in tokens; 0: as much as the longest prompt needs"
    )
    chunk_tokens: int = Field(256, ge=1, description="tokens per chunk")
    layout: Literal["chunk", "layer"] = Field("chunk", description="an object of the store is a chunk, or one layer of a chunk")
    kv_cache_gib: float = Field(2.0, gt=0, le=10**6, description="memory of vLLM's paged KV cache")
    tensor_parallel: int = Field(1, ge=1, description="vLLM's tensor-parallel size")
    warmup: int = Field(1, ge=0, description="warm-up requests per arm, with prompts outside the measured set")
    correctness_prompts: int = Field(2, ge=0, description="prompts of the float32 correctness pass before timing; 0: no pass")
    load_failure_policy: Literal["auto", "recompute", "fail"] = Field(
        "auto", description="what vLLM does when a load fails; auto: recompute if that gives right tokens, else fail"
    )
    keep_store: bool = Field(False, description="leave the primed chunks in the store")
    seed: int = Field(0, description="seed of the warm-up prompts")
    target: str = Field("", description="http://HOST:PORT of a running vLLM to measure; empty: one is started")
    target_ca: str = Field(
        "", description="PEM file of the authority that signed the target's certificate; empty: the system's, or SSL_CERT_FILE"
    )
    target_span_log: str = Field("", description="folder with the target's span log, if it is not found by itself")
    same_tokens: bool = Field(
        False, description="of arms that are servers: another answer to the same prompt ends the measurement"
    )
    target_timeout_s: float = Field(
        300.0, gt=0, allow_inf_nan=False, description="seconds of silence after which a request to a target has failed"
    )
    vllm: dict[str, Any] = Field(default={}, description="further engine arguments of vLLM, passed on unchanged")
    vary: list[str] = Field(default=[], description="axes of `ttft sweep`, such as concurrency=1,2,4; nothing else reads them")

    @property
    def one_by_one(self) -> bool:
        """Whether every request is served alone: others in the batch change the numerics, and so the tokens."""
        alone = self.concurrency == 1 and split_spec(self.arrivals)[0] == "closed"
        return alone and not self.neighbours and not self.probe_every_s

    @field_validator("arms")
    @classmethod
    def _distinct(cls, arms: list[str]) -> list[str]:
        twice = [arm for arm in arms if arms.count(arm) > 1]
        if twice:
            raise ValueError(
                f"arm '{twice[0]}' is listed twice; for A against A give one of them a name, like '{twice[0]}@again'"
            )
        return arms

    @field_validator("arms")
    @classmethod
    def _named_without_spaces(cls, arms: list[str]) -> list[str]:
        """An arm's name is a word on command lines, and what its rows are found by."""
        for arm in arms:
            spec, _, label = arm.partition("@")
            if printable(arm) != arm or any(map(str.isspace, spec.partition(":")[0] + label)) or arm != arm.strip():
                raise ValueError(
                    f"arm '{printable(shortened(arm, 100))}' has a space, or a character that does not show, in its name; "
                    "write it without, like 'chunkwise:pool=8@my-arm'"
                )
        return arms


def merge(*sources: Mapping[str, Any]) -> Experiment:
    """The experiment that the sources describe together, the last one winning. Raises UsageError."""
    values: dict[str, Any] = {}
    for source in sources:
        values.update({key: value for key, value in source.items() if value is not None})
    experiment = parse_options(Experiment, values, "the experiment")
    for name, value in experiment.vllm.items():
        if isinstance(value, str) and without_secrets(f"{name}={value}") != f"{name}={value}":
            raise UsageError(
                f"vllm.{name} would stand in run.json, where everybody can read it; set it in the environment, as HF_TOKEN"
            )
    return experiment


def experiment_folders() -> list[Path]:
    """Where named experiments are looked for: in experiments/ here, then in the package."""
    return [Path("experiments"), Path(__file__).resolve().parent / "shipped"]


def named_experiments() -> dict[str, Path]:
    """TOML files by name; one here hides one of the same name in the package."""
    found: dict[str, Path] = {}
    for folder in experiment_folders():
        for path in sorted(folder.glob("*.toml")):
            found.setdefault(path.stem, path)
    return found


def read_experiment(name: str) -> dict[str, Any]:
    """The settings in a TOML file, by path or by name (or the part of the name before the first '-').

    Raises UsageError for an unknown name, a file that is not TOML, or an unknown key.
    """
    path = Path(name)
    if path.suffix != ".toml":
        found = named_experiments()
        short = [full for full in found if full.partition("-")[0] == name]
        short = [full for full in short if found[full].parent == experiment_folders()[0]] or short  # those here hide ours
        if name not in found and len(short) == 1:
            name = short[0]
        if name not in found:
            raise known("experiment", name, list(found))
        path = found[name]
    try:
        values = _parsed(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"experiment file {path} cannot be read: {error.strerror}") from error
    except RecursionError:
        raise UsageError(f"experiment file {path} is not valid TOML: it is nested too deeply") from None
    except ValueError as error:  # not TOML, not UTF-8, or a number of thousands of digits
        raise UsageError(f"experiment file {path} is not valid TOML: {shortened(str(error), 300)}") from error
    for key in values:
        if key not in Experiment.model_fields:
            raise known(f"setting in {path}", key, list(Experiment.model_fields))
    return values


def given_settings(items: list[str]) -> dict[str, Any]:
    """Settings as KEY=VALUE, the value as TOML if it is valid TOML, else as text. Raises UsageError.

    A key with a dot names an option inside a setting, such as workload.suffix; its value stays a text.
    """
    values: dict[str, Any] = {}
    for item in items:
        key, equals, text = item.partition("=")
        if not equals:
            raise UsageError(f"--set {shortened(item, 100)} is not KEY=VALUE; write for instance --set chunk_tokens=512")
        values[key] = text if "." in key else as_toml(text)
    return values


def _parsed(text: str) -> dict[str, Any]:
    """Raises ValueError, also for what is longer than any experiment: tomllib takes minutes over a key of many dots."""
    if len(text) > LONGEST_TOML:
        raise ValueError(f"it is longer than {LONGEST_TOML >> 10} KiB")
    return tomllib.loads(text)


def as_toml(text: str) -> Any:
    """A value as TOML reads it, or the text itself if it is not TOML."""
    try:
        return _parsed(f"v = {text}")["v"]
    except RecursionError:
        raise UsageError(f"--set ...={shortened(text, 60)} is nested too deeply; give a simpler value") from None
    except ValueError:  # also for a number of thousands of digits
        return text


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of an experiment's TOML file."""
    found: dict[str, Any] = Experiment.model_json_schema()
    title = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "An experiment of ttft", "description": ""}
    return {**found, **title, "description": "Everything that decides what is measured; ttft list settings explains each key."}
