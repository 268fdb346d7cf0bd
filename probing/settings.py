"""Frozen dataclasses: the only home of a default."""

import math
import os
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, get_args

from pydantic import ConfigDict, Field, TypeAdapter

from probing.errors import UsageFault
from probing.vocabulary import Assignment, Stratum, Template

GREEDY_BELOW = 1e-5
"""Temperatures under this are greedy: all mass on the largest logit (method.md section 2)."""


def require(holds: bool, rule: str, got: object) -> None:
    """Raise `UsageFault` with "rule, got" unless `holds`."""
    if not holds:
        raise UsageFault(f"{rule}, got {got!r}")


Paths: TypeAlias = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""A path or URL, or several in their order."""


def paths_of(given: Paths, *, named: str) -> tuple[str, ...]:
    """Paths as texts; a path by itself is one, never its letters.

    Args:
        given: a text, a `Path`, or an ordered collection of them.
        named: what the paths are called in messages.

    Raises:
        UsageFault: it is something else, holds something else, or is empty.
    """
    alone = isinstance(given, str | os.PathLike)
    rule = f"{named} must be a path or a list of paths, none of them empty"
    several = isinstance(given, Iterable) and not isinstance(given, bytes | Mapping | Set)
    require(alone or several, rule, given)
    each = [given] if alone else list(given)  # type: ignore[arg-type]
    texts = tuple(os.fspath(one) if isinstance(one, os.PathLike) else one for one in each)
    require(all(isinstance(text, str) and text for text in texts), rule, given)
    require(bool(texts), f"{named} must name at least one path", given)
    return texts  # type: ignore[return-value]


Order: TypeAlias = Literal["sequential", "vllm", "joint", "truncate_first"]
ORDERS: tuple[Order, ...] = get_args(Order)
"""In which truncation can be done; see `Decoding`."""


class Strict:
    """What a run file says is taken as it is: no unknown keys, no guessed types."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, kw_only=True)
class Decoding(Strict):
    """Temperature and truncation (method.md section 2).

    `top_k = 0` switches top-k off; `top_p = 1` switches top-p off; `min_p = 0` min-p. `order`:

    - `sequential`: T, top-k, top-p, min-p, as Transformers;
    - `vllm`: T, min-p, top-k, top-p;
    - `joint`: T, then exactly k tokens, those with more than top-p of the whole mass strictly above
      them dropped, then min-p, as SGLang;
    - `truncate_first`: top-p, min-p, exactly k tokens, all at temperature 1, then T, as mlx-lm.
    """

    temperature: float = 1.0
    top_k: int = 20
    top_p: float = 0.95
    min_p: float = 0.0
    order: Order = "sequential"

    def __post_init__(self) -> None:
        valid = 0 <= self.temperature < math.inf
        require(valid, "temperature must be >= 0 and finite", self.temperature)
        require(self.top_k >= 0, "top_k must be >= 0 (0 switches it off)", self.top_k)
        require(0 < self.top_p <= 1, "top_p must be in (0, 1]", self.top_p)
        require(0 <= self.min_p < 1, "min_p must be in [0, 1) (0 switches it off)", self.min_p)
        require(self.order in ORDERS, f"order must be one of {', '.join(ORDERS)}", self.order)


@dataclass(frozen=True)
class Threshold:
    """What a threshold of `KindRule` can be: from `low` to `high`, whole numbers only or any."""

    low: float
    high: float
    whole: bool = False

    @property
    def text(self) -> str:
        """The rule in words."""
        number = "a whole number" if self.whole else "a number"
        if math.isinf(self.high):
            return f"{number} from {self.low:g}"
        return f"{number} from {self.low:g} to {self.high:g}"

    def allows(self, value: float | int) -> bool:
        """Whether a value is one of them."""
        return self.low <= value <= self.high and (not self.whole or float(value).is_integer())


THRESHOLDS: dict[str, Threshold] = {
    "lock_top1": Threshold(0.0, 1.0),
    "lock_nucleus": Threshold(1.0, math.inf, whole=True),
    "lock_tail": Threshold(0.0, 1.0),
    "fork_tail": Threshold(0.0, 1.0),
    "close_ratio": Threshold(0.0, 1.0),
    "close_among": Threshold(1.0, math.inf, whole=True),
    "fork_close_tokens": Threshold(1.0, math.inf, whole=True),
    "fork_entropy_share": Threshold(0.0, math.nextafter(1.0, 0.0)),
}
"""Thresholds of `KindRule` by name: each can be swept."""


@dataclass(frozen=True, kw_only=True)
class KindRule(Strict):
    """Thresholds that turn a distribution into a kind (method.md section 5).

    With `fork_entropy_share` above 0 forks are the positions of most entropy instead: at least
    `fork_entropy` nats, which is that share of the baseline's weight (`kinds.with_entropy_cut`).
    """

    preset: str = "post"
    lock_top1: float = 0.5
    lock_nucleus: int = 5
    lock_tail: float = 0.05
    fork_tail: float = 0.15
    close_ratio: float = 0.25
    close_among: int = 10
    fork_close_tokens: int = 2
    fork_entropy_share: float = 0.0
    fork_entropy: float | None = None

    def __post_init__(self) -> None:
        share = self.fork_entropy_share
        require(0 <= share < 1, "fork_entropy_share must be in [0, 1) (0 switches it off)", share)
        for name, threshold in THRESHOLDS.items():
            value = getattr(self, name)
            require(threshold.allows(value), f"{name} must be {threshold.text}", value)


KIND_PRESETS: dict[str, KindRule] = {
    "post": KindRule(),
    "strict": KindRule(
        preset="strict", lock_top1=0.9, lock_nucleus=2, lock_tail=0.02, fork_tail=0.1
    ),
    "entropy": KindRule(
        preset="entropy",
        lock_top1=0.9,
        lock_nucleus=2,
        lock_tail=0.02,
        fork_tail=0.1,
        fork_entropy_share=0.2,
    ),
}

DEFAULT_ASSIGNMENT = Assignment.MEAN


def preset_rule(preset: str, *, named: str = "preset") -> KindRule:
    """The thresholds of this name, or `UsageFault`; `named` is the choice's name in messages."""
    require(preset in KIND_PRESETS, f"{named} takes {', '.join(KIND_PRESETS)}", preset)
    return KIND_PRESETS[preset]


DEFAULT_REPORT_EXAMPLES = 2
"""Positions that each list of examples of a report shows."""

DEFAULT_PLAN_CARRIERS = 20
"""Carriers that `probing carriers --plan` looks at."""

DEFAULT_EXAMPLES, DEFAULT_RANKED_BY = 3, "top1_prob"
DEFAULT_RANKING, DEFAULT_RANKING_SEED = "largest change", 0
"""How many examples, which quantity ranks them, in which order; the seed of the random order."""

DEFAULT_GROUPS = (Stratum.KIND,)
"""What deltas are grouped by."""


@dataclass(frozen=True, kw_only=True)
class Margins(Strict):
    """Within what a quantity counts as preserved: + or - so much; of the nucleus, so large a share.

    The share is of the baseline's mean size. A quantity that is not named here has no margin.
    """

    top1_prob: float = 0.02
    entropy_kept_nats: float = 0.05
    nucleus_size_share: float = 0.1

    def __post_init__(self) -> None:
        for each in fields(self):
            margin = getattr(self, each.name)
            require(0 < margin < math.inf, f"margin {each.name} must be > 0 and finite", margin)


@dataclass(frozen=True, kw_only=True)
class Inference(Strict):
    """Intervals and tests: the cluster bootstrap of method.md section 7.

    `power` is that at which an effect counts as detectable.
    """

    draws: int = 2000
    level: float = 0.95
    few_clusters: int = 40
    seed: int = 0
    power: float = 0.8
    margins: Margins = field(default_factory=Margins)


@dataclass(frozen=True, kw_only=True)
class Curves(Strict):
    """Where curves are taken: ranks at T = 1, and temperatures of evaluation, both ascending."""

    ranks: tuple[int, ...] = (*range(1, 21), 50, 100, 256)
    temperatures: tuple[float, ...] = (
        0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.65, 1.8, 2.0,
    )  # fmt: skip

    def __post_init__(self) -> None:
        ranks, temperatures = list(self.ranks), list(self.temperatures)
        rule = "must be ascending, without repeats"
        require(ranks == sorted({*ranks}), f"curves.ranks {rule}", ranks)
        require(min(ranks, default=0) >= 1, "curves.ranks must be 1 or more", ranks)
        require(
            temperatures == sorted({*temperatures}), f"curves.temperatures {rule}", temperatures
        )
        above = min(temperatures, default=0) >= GREEDY_BELOW
        require(above, f"curves.temperatures must be {GREEDY_BELOW:g} or more", temperatures)


@dataclass(frozen=True, kw_only=True)
class Training(Strict):
    """How the samples were drawn that a model was trained on: T_train, top-k, top-p.

    `assumed` names those that nobody told.
    """

    temperature: float = 1.1
    top_k: int = 20
    top_p: float = 0.95
    assumed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        above = GREEDY_BELOW <= self.temperature < math.inf
        of = "of the samples trained on"
        require(above, f"train_temperature, {of}, must be > 0", self.temperature)
        require(self.top_k >= 0, f"train_top_k, {of}, must be >= 0 (0: none)", self.top_k)
        require(0 < self.top_p <= 1, f"train_top_p, {of}, must be in (0, 1] (1: none)", self.top_p)

    @classmethod
    def told(
        cls,
        *,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> "Training":
        """From what is known of it, or `UsageFault`; the rest is assumed."""
        given = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        known: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return cls(**known, assumed=tuple(name for name in given if name not in known))

    @property
    def said(self) -> str:
        """The three, and which of them are assumed."""
        names = ("temperature", "top_k", "top_p")
        t, k, p = (" (assumed)" if name in self.assumed else "" for name in names)
        return f"T {self.temperature:g}{t}, top-k {self.top_k}{k}, top-p {self.top_p:g}{p}"

    @property
    def truncates(self) -> bool:
        """Whether something lies outside the support of the target."""
        return self.top_k > 0 or self.top_p < 1

    @property
    def decoding(self) -> Decoding:
        """The same as a decoding."""
        return Decoding(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p)


@dataclass(frozen=True, kw_only=True)
class Rules(Strict):
    """Thresholds of the verdict (docs/method.md).

    Attributes:
        display: level of p-values adjusted over the primary contrasts, for readers.
        level: of p-values adjusted over what the verdict reads.
        temperature_share: of KL that one temperature must explain.
        temperature_part: of KL from which on a temperature is a part of what happened.
        token_share: of the rest that single tokens must tell.
        least_gap: at the edge of the support, nats.
        drift_draws: draws of noise that the drift null is the mean of.
    """

    display: float = 0.05
    level: float = 0.01
    temperature_share: float = 0.7
    temperature_part: float = 0.25
    token_share: float = 0.05
    least_gap: float = 0.05
    drift_draws: int = 8

    def __post_init__(self) -> None:
        require(self.drift_draws >= 1, "drift_draws must be >= 1", self.drift_draws)


@dataclass(frozen=True, kw_only=True)
class TailGrid(Strict):
    """Where the tail is stored: Chebyshev nodes in log beta over a range of temperatures."""

    nodes: int = 16
    temperature_min: float = 0.25
    temperature_max: float = 2.0

    def __post_init__(self) -> None:
        require(self.nodes >= 2, "tail.nodes must be >= 2", self.nodes)
        ends = (self.temperature_min, self.temperature_max)
        rule = "[tail] needs 0 < temperature_min <= 1 <= temperature_max, min below max"
        ordered = 0 < ends[0] <= 1 <= ends[1] < math.inf and ends[0] < ends[1]
        require(ordered, rule, ends)


@dataclass(frozen=True, kw_only=True)
class Selection(Strict):
    """Which response positions are compared (method.md section 4). 0 switches a selector off."""

    interval_every: int = 8
    random_count: int = 8
    marker_window: int = 0
    all_positions: bool = False
    lexicon: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.interval_every >= 0, "interval_every must be >= 0", self.interval_every)
        require(self.random_count >= 0, "random_count must be >= 0", self.random_count)
        require(self.marker_window >= -1, "marker_window must be >= -1 (off)", self.marker_window)


MOST_GRADING_WORKERS = 4


@dataclass(frozen=True, kw_only=True)
class Grading(Strict):
    """How answers are compared with gold ones.

    `grader` is a name that `carriers.graders` knows; `seconds` are for each answer; `workers` are
    processes (0: one a core, at most four); `regrade` replaces grades that records bring along.
    """

    grader: str = "math-verify"
    seconds: float = 5.0
    workers: int = 0
    regrade: bool = False

    def __post_init__(self) -> None:
        limited = 0 < self.seconds <= 86400
        require(limited, "seconds per answer must be in (0, 86400]", self.seconds)
        require(self.workers >= 0, "grading workers must be >= 0 (0: by cores)", self.workers)


@dataclass(frozen=True, kw_only=True)
class Sampling(Strict):
    """How carriers are drawn: `carriers = 0` keeps all. `by` names strata of `carriers.sampling`.

    `allocation`: `balanced` takes as many of each combination, `proportional` by their sizes.
    """

    carriers: int = 0
    by: tuple[str, ...] = ("generator", "correct", "length_bin")
    allocation: Literal["balanced", "proportional"] = "balanced"
    length_bins: int = 3
    max_response_tokens: int = 65536
    seed: int = 0
    paired: bool = False


@dataclass(frozen=True, kw_only=True)
class Inputs(Strict):
    """How logs become carriers.

    Attributes:
        format: of records, by name; `auto` tells it from the records.
        generator: who wrote what does not say so.
        names: from the name of a generator in a log to that in the run.
        template: how prompts become text, whatever the log says.
        columns: from a field of the carrier record to the column that holds it.
        thinking_format: how thinking that stands apart and content become a response.
    """

    format: str = "auto"
    generator: str | None = None
    names: dict[str, str] = field(default_factory=dict)
    template: Template | None = None
    columns: dict[str, str] = field(default_factory=dict)
    thinking_format: str = "<think>\n{thinking}\n</think>\n\n{content}"

    def __post_init__(self) -> None:
        both = all(part in self.thinking_format for part in ("{thinking}", "{content}"))
        rule = "inputs.thinking_format needs {thinking} and {content}"
        require(both, rule, self.thinking_format)


@dataclass(frozen=True, kw_only=True)
class StoreLayout(Strict):
    """Sizes of the store: `top_k` is K of method.md section 3; rows and candidates are counts."""

    top_k: int = 256
    max_watched: int = 32
    shard_rows: int = 1024
    chunk_rows: int = 128
    chunk_candidates: int = 64


@dataclass(frozen=True, kw_only=True)
class Scoring(Strict):
    """How models are run. Lengths are tokens; `head_rows` is positions per block of logits.

    `memory_mode`: `together` holds every model, `split` puts each on a device of its own (those
    of `devices`, or the GPUs in their order), `sequential` holds one at a time; `auto` takes the
    first of them that fits. Adapters share the baseline's weights and count as one model with it.
    `noise_carriers`: on how many carriers the noise floor is measured; 0 switches it off.
    `cast_carriers`: how many are scored in float32 too, where the run is not; 0 switches it off.
    """

    device: str = "auto"
    devices: tuple[str, ...] = ()
    memory_mode: Literal["auto", "together", "split", "sequential"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    attention: str = "sdpa"
    token_budget: int = 2048
    chunk_tokens: int = 1024
    head_rows: int = 128
    temperatures: tuple[float, ...] = (1.0,)
    self_check_tolerance: float = 1e-4
    self_check_tolerance_half: float = 0.5
    noise_carriers: int = 8
    cast_carriers: int = 8
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        require(self.noise_carriers >= 0, "noise_carriers must be >= 0 (off)", self.noise_carriers)
        require(self.cast_carriers >= 0, "cast_carriers must be >= 0 (off)", self.cast_carriers)


@dataclass(frozen=True, kw_only=True)
class ModelSpec(Strict):
    """One model: a folder (or hub id) of a checkpoint, or an adapter over the baseline."""

    name: str
    path: str | None = None
    adapter: str | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        require(
            (self.path is None) != (self.adapter is None),
            f"model {self.name!r} needs exactly one of `path` and `adapter`",
            f"path={self.path!r}, adapter={self.adapter!r}",
        )


@dataclass(frozen=True, kw_only=True)
class RunSettings(Strict):
    """All that `probing score` needs; the TOML file has one table per field.

    `baseline` and each of `others` is a model; the order of `others` is the order of the run.
    """

    out: str
    carriers: Annotated[tuple[str, ...], Field(min_length=1)]
    baseline: ModelSpec
    others: Annotated[tuple[ModelSpec, ...], Field(min_length=1)]
    inputs: Inputs = field(default_factory=Inputs)
    grading: Grading = field(default_factory=Grading)
    selection: Selection = field(default_factory=Selection)
    sampling: Sampling = field(default_factory=Sampling)
    store: StoreLayout = field(default_factory=StoreLayout)
    tail: TailGrid = field(default_factory=TailGrid)
    scoring: Scoring = field(default_factory=Scoring)

    def __post_init__(self) -> None:
        object.__setattr__(self, "carriers", paths_of(self.carriers, named="carriers"))
        names = [self.baseline.name, *(other.name for other in self.others)]
        require(len(set(names)) == len(names), "every model needs a name of its own", names)


def as_json(settings: object) -> dict[str, Any]:
    """A settings dataclass as plain JSON values, for manifests and downloads."""
    return dict(TypeAdapter(type(settings)).dump_python(settings, mode="json"))
