"""From an experiment as written to one that can be carried out: auto values filled in, prompts built."""

from dataclasses import dataclass, replace

from harness.connector.peers import PEERS
from harness.connector.peers.arm import PeerArm, parse_peer
from harness.connector.settings import Arm, check_ranks, parse_arm
from harness.core.chunks import hit_limit
from harness.core.errors import UsageError, known
from harness.core.machine import uses_gpu
from harness.core.options import parse_options, split_spec
from harness.core.renamed import store_note, store_today
from harness.core.text import redact
from harness.engines import ENGINES
from harness.engines.base import Offer
from harness.experiment.cache_state import PlannedRun, distinct_chunks, expected_hits, hit_by, priming_plan, schedule
from harness.experiment.settings import Experiment
from harness.experiment.target_arm import NAME as TARGET
from harness.experiment.target_arm import TargetArm, is_target, of_targets, parse_target, shared_tokens
from harness.replay import models
from harness.replay.arrivals import parse_arrivals, times
from harness.replay.target_url import check_url
from harness.stats.serving import parse_slo
from harness.stores.base import check_store
from harness.workloads import WORKLOADS
from harness.workloads.base import DataSet, Limits, token_block


def parse_any(text: str) -> Arm | PeerArm | TargetArm:
    """An engine of ours by preference. Raises UsageError."""
    if is_target(text):
        return parse_target(text)
    name = text.partition("@")[0].partition(":")[0].strip()
    try:
        ENGINES.get(name)
    except UsageError:
        peers = PEERS.all()
        if name in peers:
            return parse_peer(text)
        raise known("engine", name, [*ENGINES.all(), *peers, TARGET]) from None
    return parse_arm(text)


PRIMER = "chunkwise"
"""The arm that primes: it hits what is stored already and saves the rest."""
FLOOR, RECOMPUTE = "floor", "recompute"


@dataclass(frozen=True, slots=True)
class Setting:
    """Everything that is known before vLLM starts.

    ``arms`` are the measured ones in their order, bounds last; ``hits`` the tokens that each prompt
    has to hit; ``heads`` what has to be primed; ``times`` seconds from a run's start at which each
    prompt is sent, None in a closed loop; ``shared`` the tokens that each prompt has in common with any other, for servers
    that hit what they like.
    """

    experiment: Experiment
    model: models.Model
    dtype: str
    max_model_len: int
    arms: dict[str, Arm | PeerArm | TargetArm]
    data: DataSet
    hits: list[int]
    heads: list[tuple[int, ...]]
    warmup: tuple[tuple[int, ...], int]
    times: list[float] | None
    notes: tuple[str, ...]
    shared: tuple[int, ...] = ()

    @property
    def peers(self) -> list[PeerArm]:
        """The arms that are not ours; each needs a vLLM of its own."""
        return [arm for arm in self.arms.values() if isinstance(arm, PeerArm)]

    @property
    def targets(self) -> list[TargetArm]:
        """The arms that are running servers: all of them, or none."""
        return [arm for arm in self.arms.values() if isinstance(arm, TargetArm)]

    def expected_hit(self, arm: str, position: int, hit: int | None) -> int:
        """What ``arm`` has to hit of a prompt; of what it may choose, the ``hit`` that it reports."""
        chosen, whole = self.arms[arm], self.hits[position]
        if isinstance(chosen, TargetArm):
            least, most = chosen.expects(whole, self.shared[position])
            return hit if hit is not None and least <= hit <= most else least
        return hit_by(chosen, whole, self.experiment.chunk_tokens, len(self.data.prompts[position].tokens), hit)

    @property
    def loading_arms(self) -> list[str]:
        """Names of the arms that move KV."""
        return [name for name, arm in self.arms.items() if arm.engine.loads_kv]

    @property
    def proves_apart(self) -> bool:
        """Whether the correctness pass needs a vLLM of its own: only ours can be started in float32 for it."""
        return self.dtype != "float32" and not self.experiment.target and not self.peers and not self.targets

    @property
    def load_failure_policy(self) -> str:
        """What vLLM is to do after a failed load. On a GPU and behind a sliding window ``recompute`` gives wrong tokens
        (harness/connector/supported.py); the run is void either way."""
        asked = self.experiment.load_failure_policy
        if asked != "auto":
            return asked
        return "fail" if uses_gpu() or self.model.window else "recompute"

    @property
    def planned_runs(self) -> list[PlannedRun]:
        """All runs in their order."""
        experiment = self.experiment
        return schedule(list(self.arms), experiment.pairs, [RECOMPUTE], experiment.recompute_rounds)

    def without_peers(self, command: str) -> None:
        """Raises UsageError if ``command``, which has one vLLM for all arms, is given a peer."""
        if self.targets:
            raise UsageError(f"the arm {self.targets[0].name} is a server that runs already, so {command} cannot use it")
        if self.peers:
            raise UsageError(
                f"the arm {self.peers[0].name} needs a vLLM of its own, which {command} cannot give it; use ttft compare"
            )

    @property
    def served_arms(self) -> list[str]:
        """Arms that the connector has to know: the measured ones, the primer and the reference of the correctness pass."""
        return list(dict.fromkeys([*self.arms, PRIMER, RECOMPUTE]))

    @property
    def primed_chunks(self) -> int:
        """Chunks that priming stores."""
        return distinct_chunks(self.heads, self.experiment.chunk_tokens)


def settle(experiment: Experiment) -> Setting:
    """Resolve everything. Raises UsageError or SetupError; starts nothing."""
    notes: list[str] = []
    if note := store_note(experiment.store):
        notes.append(note)
        experiment = experiment.model_copy(update={"store": store_today(experiment.store)})
    if experiment.target:
        experiment = experiment.model_copy(update={"target": check_url(experiment.target)})
    arms: dict[str, Arm | PeerArm | TargetArm] = {}
    if any(map(is_target, experiment.arms)):
        experiment, servers = of_targets(experiment)
        arms |= servers
    else:
        arms |= {text: parse_any(text) for text in experiment.arms}
    if experiment.bounds:
        arms.setdefault(RECOMPUTE, parse_arm(RECOMPUTE))
        if experiment.cache_state == "primed":
            arms.setdefault(FLOOR, parse_arm(FLOOR))
    if experiment.cache_state == "natural":
        if any(arm.engine.grants_hits and not arm.engine.loads_kv for arm in arms.values()):
            raise UsageError(
                "the floor arm cannot run in the natural state: its KV is not real, so it saves nothing and hits nothing"
            )
        if experiment.concurrency > 1:
            raise UsageError(
                "natural with concurrency above 1 has no certain hits to verify; use concurrency=1 or cache_state=primed"
            )
    _check_peers([arm for arm in arms.values() if isinstance(arm, PeerArm)], experiment)
    check_ranks(experiment.vllm)
    check_store(experiment.store)
    dtype = models.default_dtype() if experiment.dtype == "auto" else experiment.dtype
    model = models.resolve(experiment.model, dtype)
    if experiment.max_model_len > model.max_positions:
        raise UsageError(
            f"max_model_len={experiment.max_model_len} is more than the {model.max_positions} of model {model.name}; lower it"
        )
    limits = Limits(model.vocabulary, experiment.max_model_len or model.max_positions, experiment.chunk_tokens)
    data = _provable(_build(experiment.workload, limits), limits)
    hits = expected_hits(data, experiment.cache_state, experiment.chunk_tokens)
    if not any(hits):
        raise UsageError(
            "no prompt of the workload hits a whole chunk, so there is nothing to load; lengthen prefixes or lower chunk_tokens"
        )
    notes += _idle(hits, experiment)
    notes += [note for arm in arms.values() if isinstance(arm, Arm) for note in _whole(arm, data, hits, experiment.chunk_tokens)]
    if experiment.vary:
        varied = " and ".join(experiment.vary)
        notes.append(f"This is one point of the experiment: it varies {varied}, which only ttft sweep does.")
    heads = priming_plan(data, hits, experiment.chunk_tokens) if experiment.cache_state == "primed" else []
    parse_slo(experiment.slo)
    at = _times(experiment, data)
    warmup = _warmup(data, hits, model.vocabulary, experiment)
    longest = max(len(prompt.tokens) + prompt.output_tokens for prompt in data.prompts)
    max_model_len = min(-(-(longest + 16) // 256) * 256, model.max_positions)
    shared: list[int] = []
    if any(isinstance(arm, TargetArm) for arm in arms.values()):
        dtype = experiment.dtype  # of the server, which does not tell
        shared = shared_tokens([prompt.tokens for prompt in data.prompts], heads)
    notes += data.notes
    return Setting(
        experiment, model, dtype, max_model_len, arms, data, hits, heads, warmup, at, tuple(notes), tuple(shared)
    )  # fmt: skip


def _check_peers(peers: list[PeerArm], experiment: Experiment) -> None:
    """What peers cannot do, and what would make them incomparable. Raises UsageError."""
    if not peers:
        return
    name, scheme = peers[0].name, experiment.store.partition("://")[0]
    if experiment.target:
        raise UsageError(f"the arm {name} needs a vLLM of its own, which a target is not; remove target")
    if experiment.cache_state == "natural":
        raise UsageError(f"the arm {name} cannot be emptied between two runs, so only cache_state=primed can be measured with it")
    if scheme not in ("file", "aiofile"):
        raise UsageError(
            f"the arm {name} reads its own files, which lie beside ours, so store={redact(experiment.store)} cannot be used; "
            "use file:///FOLDER"
        )


def _times(experiment: Experiment, data: DataSet) -> list[float] | None:
    found = times(parse_arrivals(experiment.arrivals), [prompt.arrival_s for prompt in data.prompts])
    if found is None:
        return None
    for name, value, only in (
        ("concurrency", experiment.concurrency, 1),
        ("cache_state", experiment.cache_state, "primed"),
        ("page_cache", experiment.page_cache, "warm"),
    ):
        if value != only:
            raise UsageError(
                f"arrivals={experiment.arrivals} sends requests at their times, so {name}={value} cannot hold; use {name}={only}"
            )
    return found


def _build(spec: str, limits: Limits) -> DataSet:
    name, options = split_spec(spec)
    cls = WORKLOADS.get(name)
    for option, info in cls.Options.model_fields.items():
        if info.is_required() and option not in options:
            raise UsageError(
                f"workload '{name}' needs the option '{option}' ({info.description}); write {name}:{option}=..., "
                f"or give --set workload.{option}=..."
            )
    return cls(parse_options(cls.Options, options, f"workload '{name}'")).build(limits)


def _idle(hits: list[int], experiment: Experiment) -> list[str]:
    """A sentence if some prompts load nothing: no arm can be faster there, and quantiles may lie among them."""
    none = hits.count(0)
    if not none:
        return []
    among = ", and the p50 lies among them" if 2 * none > len(hits) else ""
    fix = "; choose longer prompts or lower chunk_tokens" if experiment.cache_state == "primed" else ""
    return [
        f"{none} of {len(hits)} prompts hit no whole chunk of {experiment.chunk_tokens} tokens, so no arm loads anything "
        f"for them{among}; the report shows hits and misses separately{fix}."
    ]


def _whole(arm: Arm, data: DataSet, hits: list[int], chunk_tokens: int) -> list[str]:
    """A sentence about an arm that takes a part of long hits, where none of the workload's is long enough."""
    far = Offer(chunks=2**20, chunk_tokens=chunk_tokens, prompt_tokens=2**21 * chunk_tokens)
    if arm.engine.adapts(arm.options) or arm.engine.choose(arm.options, far).chunks == far.chunks:
        return []
    lengths = [len(prompt.tokens) for prompt in data.prompts]
    if any(hit_by(arm, hit, chunk_tokens, length, None) < hit for hit, length in zip(hits, lengths, strict=True)):
        return []
    longest = max(hits) // chunk_tokens
    return [f"{arm.name} loads all of each hit, as the longest has {longest} chunks of {chunk_tokens} tokens."]


def _provable(data: DataSet, limits: Limits) -> DataSet:
    """``data`` with at least two output tokens per prompt: the KV proof is taken after the first. Traces have some with one."""
    short = [prompt for prompt in data.prompts if prompt.output_tokens < 2]
    if not short:
        return data
    if any(len(prompt.tokens) + 2 > limits.max_tokens for prompt in short):
        raise UsageError(
            f"each request needs 2 output tokens at least, and a prompt of the workload leaves room for one in the "
            f"{limits.max_tokens} tokens that the model allows; set output=2 or more"
        )
    prompts = tuple(replace(prompt, output_tokens=max(prompt.output_tokens, 2)) for prompt in data.prompts)
    note = f"{len(short)} of {len(prompts)} prompts ask for one output token and get two: the KV proof is taken after the first."
    return replace(data, prompts=prompts, notes=(*data.notes, note))


def _warmup(data: DataSet, hits: list[int], vocabulary: int, experiment: Experiment) -> tuple[tuple[int, ...], int]:
    """A prompt outside the measured set, as long as the one with the longest hit, and its hit."""
    hit, length = max((hit, len(prompt.tokens)) for prompt, hit in zip(data.prompts, hits, strict=True))
    tokens = tuple(int(token) for token in token_block(f"warm-up/{experiment.seed}", length, vocabulary))
    return tokens, min(hit, hit_limit(length, experiment.chunk_tokens))
