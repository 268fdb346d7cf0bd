"""The names, shapes, dtypes and precision of everything inside a run."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from probing.settings import StoreLayout
from probing.store.manifest import Manifest
from probing.store.plan import Plan
from probing.vocabulary import PADDING_ID

FORMAT = "probing-run"
SCHEMA_VERSION = 1
"""Raised whenever an older reader would misread a run; readers refuse anything newer."""

METADATA = "zarr.json"
MANIFEST = "manifest"
PLAN = "plan"
COMMITS = "commits"
LAYOUT_SEAL = f"{COMMITS}/layout"
FINISH_SEAL = f"{COMMITS}/finish"
CARRIERS = "carriers"
VOCABULARY = "vocabulary"
STATISTICS = "statistics"

PARTIAL_SUFFIX = ".partial"
LOCK_SUFFIX = ".lock"
LABELS_SUFFIX = ".labels.jsonl"
LOG_SUFFIX = ".log.jsonl"


class PositionArray(NamedTuple):
    """One array over positions: its dtype, the axes after `position`, and what spare rows hold."""

    dtype: str
    axes: tuple[str, ...]
    fill: float | int | bool


POSITION_ARRAYS: dict[str, PositionArray] = {
    "valid": PositionArray("bool", (), False),
    "carrier": PositionArray("int32", (), -1),
    "position": PositionArray("int32", (), -1),
    "token_id": PositionArray("int32", (), PADDING_ID),
    "selectors": PositionArray("uint32", (), 0),
    "inclusion": PositionArray("float64", (), np.nan),
    "phase": PositionArray("uint8", (), 0),
    "char_start": PositionArray("int32", (), -1),
    "char_end": PositionArray("int32", (), -1),
    "candidate_id": PositionArray("int32", ("candidate",), PADDING_ID),
    "logit": PositionArray("float32", ("model", "candidate"), -np.inf),
    "realised_logit": PositionArray("float32", ("model",), np.nan),
    "realised_rank": PositionArray("int32", ("model",), -1),
    "masked": PositionArray("int32", ("model",), -1),
    "log_z": PositionArray("float32", ("model", "temperature"), np.nan),
    "kl_baseline_other": PositionArray("float32", ("pair", "temperature"), np.nan),
    "kl_other_baseline": PositionArray("float32", ("pair", "temperature"), np.nan),
    "js": PositionArray("float32", ("pair", "temperature"), np.nan),
    "tail_reference": PositionArray("float32", ("measure",), -np.inf),
    "tail_log_mass": PositionArray("float32", ("measure", "beta"), 0.0),
    "tail_mean": PositionArray("float32", ("measure", "model", "beta"), 0.0),
    "tail_square": PositionArray("float32", ("measure", "beta"), 0.0),
}
"""`valid` and the fields of `UnitArrays`; the first axis of each is `position`."""

COPIED = (
    "carrier",
    "position",
    "token_id",
    "selectors",
    "inclusion",
    "phase",
    "char_start",
    "char_end",
    "realised_logit",
    "realised_rank",
    "kl_baseline_other",
    "kl_other_baseline",
    "js",
)
"""Small arrays of which a finished run has a copy in few, large shards: a page reads them whole,
and a shard a unit takes a hundred times as long."""

PAD_CANDIDATES: dict[str, float] = {"candidate_id": PADDING_ID, "logit": -np.inf}

TAIL_RESOLUTION: dict[str, float] = {
    "tail_log_mass": 2.0**-14,
    "tail_mean": 2.0**-13,
    "tail_square": 2.0**-12,
}
"""The step of the fixed point on which each tail array is stored.

Half a step is the error. Between nodes it grows by at most the Lebesgue constant of 16 Chebyshev
nodes, 2.8. With m the tail's share, a probability then moves by at most 2.8 · 2^-15 · m (1 - m),
2e-5; entropy, H = log Z - beta E[x], by 2.8 · (2^-15 · m (1 + (1 - m) · beta · gap) + 2^-14 · m
beta), gap being the distance between the candidates' and the tail's mean logit: below 8e-4 nats
at T = 0.25 and 3e-4 at T >= 1, a fifth of the contract, since a gap of more than about 12 / beta
leaves nothing in the tail. Varentropy moves by at most 2.8 · 2^-13 · m beta² through E[x²].
Rounding can turn a tail's variance of zero into a tiny negative number; clip it.
"""

POSITION_LAST = frozenset(TAIL_RESOLUTION)
"""Arrays whose chunks are laid out with neighbouring positions side by side: they resemble each
other more than neighbouring nodes do, and compress better so."""

WHOLE_BYTES = frozenset({"candidate_id"})
"""Arrays that shuffled bytes compress better than shuffled bits: ids have no order."""


def to_fixed_point(values: Float[np.ndarray, "..."], *, resolution: float) -> np.ndarray:
    """Round to the nearest multiple of `resolution`, as float32.

    Zeroed low bits compress away; the error is at most half the resolution (beyond 128 float32's
    own step is coarser and takes over). Signs are kept: nothing crosses zero, and -0 becomes 0.
    """
    steps = np.rint(values.astype(np.float64) / resolution)
    return (steps * resolution + 0.0).astype(np.float32)


def axis_sizes(manifest: Manifest, plan: Plan) -> dict[str, int]:
    """How long each axis of a run is.

    `candidate` is min(V, models · K + watched): no union can be longer.
    """
    models = len(manifest.model_names)
    widest = models * plan.layout.top_k + plan.layout.max_watched
    return {
        "position": plan.capacity,
        "model": models,
        "pair": models - 1,
        "measure": len(manifest.measures.names),
        "temperature": len(manifest.settings.scoring.temperatures),
        "beta": manifest.settings.tail.nodes,
        "candidate": min(manifest.vocabulary_size, widest),
    }


class Grid(NamedTuple):
    """How an array is cut: `shape`, whole objects of `shard`, compressed pieces of `chunk`."""

    shape: tuple[int, ...]
    shard: tuple[int, ...]
    chunk: tuple[int, ...]
    names: tuple[str, ...]


def position_grid(array: PositionArray, *, sizes: dict[str, int], layout: StoreLayout) -> Grid:
    """Cut an array over positions: a shard holds `shard_rows` rows with all their other axes.

    Only arrays with candidates are cut into chunks, along both, so the first ranks of many rows
    are read without the rest; the others are small, and compress better whole.
    """
    cut = "candidate" in array.axes
    shard, chunk = [layout.shard_rows], [layout.chunk_rows if cut else layout.shard_rows]
    for axis in array.axes:
        size = sizes[axis]
        piece = min(size, layout.chunk_candidates) if axis == "candidate" else size
        chunk.append(piece)
        shard.append(-(-size // piece) * piece)
    names = ("position", *array.axes)
    return Grid(tuple(sizes[name] for name in names), tuple(shard), tuple(chunk), names)


def shard_key(name: str, *, shard: int, dimensions: int) -> str:
    """The object that holds shard number `shard` of an array cut along its first axis only."""
    return "/".join([name, "c", str(shard), *["0"] * (dimensions - 1)])


def unit_objects(unit_shards: range) -> list[str]:
    """Every object that a unit covering these shards writes."""
    return [
        shard_key(name, shard=shard, dimensions=1 + len(array.axes))
        for name, array in POSITION_ARRAYS.items()
        for shard in unit_shards
    ]


def unit_name(index: int) -> str:
    """The group of one unit's commit object."""
    return f"{COMMITS}/{index:05d}"
