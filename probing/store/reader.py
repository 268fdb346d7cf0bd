"""Reading a run: committed units only, by row; no tokenizer, model or torch needed."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from probing.analysis.decoding import Statistics, joined, statistics
from probing.analysis.distributions import Distributions, Tail
from probing.analysis.grid import Grid, logit_grid
from probing.analysis.side_by_side import side_by_side
from probing.analysis.tail import tail_betas
from probing.carriers.record import Carrier
from probing.settings import Decoding, KindRule
from probing.store.answers import Answers, Pair, Rowwise
from probing.store.arrays import decoding as damage_named
from probing.store.arrays import open_array, read_rows
from probing.store.casting import Casting
from probing.store.finished import Finished
from probing.store.kept import KEPT_BYTES, Kept
from probing.store.manifest import Manifest
from probing.store.mixing import weighted_logits, weighted_tail_mean
from probing.store.noise import NoiseFloor
from probing.store.objects import missing
from probing.store.opening import Opened, open_committed
from probing.store.place import CommittedStore, Place, place_of
from probing.store.plan import Plan
from probing.store.schema import CARRIERS, PAD_CANDIDATES, POSITION_ARRAYS, STATISTICS, VOCABULARY
from probing.store.shards import Shards, shard_form
from probing.store.texts import carrier_of, piece, text_of
from probing.store.unit import Measures
from probing.vocabulary import CandidateLogits, PerPosition, PositionIds, TailNodes

Rows = Int[np.ndarray, " row"]

GRID_ROWS = 64
"""Rows in which a half-precision grid is looked for: one off the grid is enough to rule it out."""

FIRST_STATISTICS = ("top1_prob", "nucleus_size", "tail_mass", "close_tokens", "entropy_nats")
"""Those that kinds and every table's deltas rest on."""

BLOCK_ROWS = 1024
"""Rows whose distributions a thread holds at once where something is computed for a whole run."""


@dataclass(frozen=True)
class PositionTable:
    """What is known of each position apart from the models: as in `UnitArrays`, in row order."""

    carrier: PositionIds
    position: PositionIds
    token_id: PositionIds
    selectors: Shaped[np.ndarray, " position"]
    inclusion: PerPosition
    phase: Shaped[np.ndarray, " position"]
    char_start: PositionIds
    char_end: PositionIds


class Run:
    """The committed state of a run when it was opened, read-only; safe to share over threads.

    Row indices are indices into the committed positions, 0 … rows - 1, in stored order; spare rows
    never show. `rows=None` means all. A measure is named, or given as its index.

    Attributes:
        location: the path or URL it was opened from.
        manifest, plan: see there.
        fingerprint: SHA-256 over the manifest and the commits; it changes when units are added.
        complete: every unit is committed and the default statistics are there.
        committed: the units that can be read.
        summary: what the scorer left when it finished; empty before.
        storage_rows: the place of each row in the arrays.
        finished: what finishing left to open fast with; None before.
    """

    def __init__(self, place: Place, opened: Opened, *, kept_bytes: int = KEPT_BYTES) -> None:
        self.location: str = place.location
        self.manifest: Manifest = opened.manifest
        self.plan: Plan = opened.plan
        self.fingerprint: str = opened.fingerprint
        self.complete: bool = opened.finish is not None
        self.committed: tuple[int, ...] = tuple(commit.unit for commit in opened.commits)
        self.commits = opened.commits
        self.summary: dict[str, Any] = opened.finish.summary if opened.finish else {}
        self.storage_rows: Int[np.ndarray, " position"] = np.concatenate(
            [
                np.zeros(0, dtype=np.int64),
                *(np.arange(c.row_start, c.row_start + c.rows) for c in opened.commits),
            ]
        )
        self._place = place
        self._arrays: dict[str, Any] = {}
        self._shards: dict[str, Shards | None] = {}
        self._store = CommittedStore(place.store(), opened.objects)
        self._kept: Kept[np.ndarray] = Kept(kept_bytes)
        self.finished = (
            None
            if opened.finish is None
            else Finished(
                opened.finish, lambda name: self._read(f"{STATISTICS}/{name}", None), self._kept
            )
        )
        self._width = max((commit.candidates for commit in opened.commits), default=0)
        self._answers = Answers(
            Rowwise(
                blocks=lambda: self.row_blocks(),
                read=lambda rows: self._block(rows),
                distributions=lambda measure, array: self._distributions(measure, array),
            ),
            measures=len(self.measures.names),
            rows=len(self),
            finished=self.finished,
        )

    def __len__(self) -> int:
        return len(self.storage_rows)

    @property
    def model_names(self) -> tuple[str, ...]:
        """Baseline first, then the others."""
        return self.manifest.model_names

    @cached_property
    def measures(self) -> Measures:
        """Models, then means: what `distributions` can be asked for."""
        return self.manifest.measures

    @property
    def noise_floor(self) -> NoiseFloor | None:
        """What another batch shape alone does to the baseline; None where it was not measured."""
        stored = self.summary.get("noise_floor")
        return None if stored is None else NoiseFloor.from_json(stored)

    @property
    def casting(self) -> Casting | None:
        """What the run's dtype does beside float32; None where it was not measured."""
        stored = self.summary.get("casting")
        return None if stored is None else Casting.from_json(stored)

    def logit_grid(self, model: str | int) -> Grid | None:
        """The half-precision grid that a model's stored logits sit on, in the first rows.

        Gaps below one step of it (`analysis.grid.grid_step`) are ties. None as it should be: its
        head was run in float32.
        """
        rows = np.arange(min(GRID_ROWS, len(self)))
        logits: CandidateLogits = self.array("logit", rows)[:, self.measure_index(model)]
        return logit_grid(logits)

    @cached_property
    def betas(self) -> PerPosition:
        """Nodes of the tail grid, ascending."""
        return tail_betas(self.manifest.settings.tail)

    def measure_index(self, measure: str | int) -> int:
        """The place of a measure on its axis.

        Raises:
            ValueError: the run has no such measure; those it has are listed.
        """
        names = self.measures.names
        index = names.index(measure) if measure in names else measure
        if not isinstance(index, int) or not 0 <= index < len(names):
            raise ValueError(f"a measure must be one of {', '.join(names)}, got {measure!r}")
        return index

    def array(
        self, name: str, rows: Rows | None = None, *, candidates: int | None = None
    ) -> Shaped[np.ndarray, "row ..."]:
        """Rows of one stored array (a field of `UnitArrays`), first axis `position`.

        Args:
            name: of the array.
            rows: which rows, in any order, repeats allowed.
            candidates: for arrays with that axis: only the first so many, without reading the
                rest. By default as many as the widest committed position uses.

        Returns:
            The rows; do not write into them.

        Raises:
            ValueError: no such array.
            IndexError: a row outside the run.
            CorruptRun: bytes on the disk are not what was written.
        """
        if name not in POSITION_ARRAYS:
            raise ValueError(f"an array must be one of {', '.join(POSITION_ARRAYS)}, got {name!r}")
        if rows is None and self.finished and self.finished.copies(name):
            return self.finished.copy(name)
        width = None
        if name in PAD_CANDIDATES:
            width = self._width if candidates is None else min(candidates, self._width)
        # Rows one after the other are told by their ends; others are not worth keeping.
        row = np.arange(len(self)) if rows is None else rows
        if len(row) == 0 or row[-1] - row[0] != len(row) - 1 or (np.diff(row) != 1).any():
            return self._read(name, rows, candidates=width)
        key = (name, int(row[0]), int(row[-1]), width)
        return self._kept.get(key, lambda: self._read(name, rows, candidates=width))

    def _read(self, name: str, rows: Rows | None, *, candidates: int | None = None) -> np.ndarray:
        return self._read_stored(name, self._stored(rows), candidates=candidates)

    def _read_stored(self, name: str, stored: Rows, *, candidates: int | None) -> np.ndarray:
        """Rows by their places in the arrays."""
        array = self._open(name)
        shards = self._shards[name]
        if shards is not None and len(stored) and shards.fill(stored):
            found = shards.rows(stored, width=candidates)
        else:
            with damage_named(name):
                found = read_rows(array, stored, candidates=candidates)
        found.setflags(write=False)
        return found

    def _stored(self, rows: Rows | None) -> Int[np.ndarray, " row"]:
        if rows is None:
            return self.storage_rows
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(
                f"rows must be in 0 … {len(self) - 1}, got {rows.min()} … {rows.max()}"
            )
        return np.asarray(self.storage_rows[rows])

    def _open(self, name: str) -> Any:
        found = self._arrays.get(name)
        if found is None:
            found = open_array(self._store, name)
            over_rows = name in POSITION_ARRAYS or name.startswith(STATISTICS)
            form = shard_form(found) if over_rows else None
            self._shards[name] = None if form is None else Shards(name, form, self._fetch)
            self._arrays[name] = found
        return found

    def _fetch(self, key: str) -> bytes:
        content = self._place.read(key)
        if content is None:
            raise missing(key)
        self._store.approve(key, content)
        return content

    @cached_property
    def _positions(self) -> PositionTable:
        names = [field.name for field in dataclasses.fields(PositionTable)]
        return PositionTable(**dict(zip(names, side_by_side(self.array, names), strict=True)))

    def read_ahead(self) -> None:
        """Read side by side what every table asks for first, where finishing left it."""
        first: list[Callable[[], object]] = [self.carriers, self.positions]
        if self.finished:
            decoding, rule = Decoding(), KindRule()
            stored = self.statistics(0, decoding=decoding, rule=rule)
            first += [partial(getattr, stored, name) for name in FIRST_STATISTICS]
        side_by_side(lambda read: read(), first)

    def positions(self) -> PositionTable:
        """Carrier, place, token and selection of every position. Do not write into it."""
        return self._positions

    def distributions(self, measure: str | int, *, rows: Rows | None = None) -> Distributions:
        """One distribution per row: a model's, or that of the mean of several models' logits.

        The candidate axis is as long as the widest committed position needs, the same for every
        measure and every choice of rows.
        """
        return self._distributions(self.measure_index(measure), lambda name: self.array(name, rows))

    def _distributions(self, index: int, array: Callable[[str], np.ndarray]) -> Distributions:
        """Those of a measure; `array` has the rows of an array by its name."""
        weights = self.measures.weights[index]
        reference, means = array("tail_reference"), array("tail_mean")[:, index]
        tail = Tail(
            reference=reference[:, index],
            log_mass=array("tail_log_mass")[:, index].astype(np.float64),
            mean=weighted_tail_mean(means, reference, weights=weights, measure=index),
            square=array("tail_square")[:, index].astype(np.float64),
        )
        return Distributions(
            ids=array("candidate_id"),
            logits=weighted_logits(array("logit"), weights),
            tail=tail,
            betas=self.betas,
            is_mean=index >= len(self.model_names),
        )

    def cross_mean(
        self, measure: str | int, *, of: str | int, rows: Rows | None = None
    ) -> TailNodes:
        """Over a measure's tempered tail, the mean of model `of`'s logits; (position, beta).

        Less that model's own `tail_reference`. A divergence at any temperature needs it.
        """
        model = self.measure_index(of)
        if model >= len(self.model_names):
            raise ValueError(f"`of` must be a model ({', '.join(self.model_names)}), got {of!r}")
        means = self.array("tail_mean", rows)[:, self.measure_index(measure), model]
        return means.astype(np.float64)

    def _block(self, rows: Rows) -> Callable[[str], np.ndarray]:
        """Arrays of some rows by name, each read once, and let go with what is returned."""
        stored = self._stored(rows)
        return cache(
            lambda name: self._read_stored(
                name, stored, candidates=self._width if name in PAD_CANDIDATES else None
            )
        )

    def statistics(self, measure: str | int, *, decoding: Decoding, rule: KindRule) -> Statistics:
        """Statistics of every row: stored ones where they were asked for alike, else computed.

        The last ones are kept. Do not write into them.
        """
        return self.statistics_of([measure], decoding=decoding, rule=rule)[0]

    def statistics_of(
        self, measures: Sequence[str | int], *, decoding: Decoding, rule: KindRule
    ) -> list[Statistics]:
        """`statistics` of several measures; those that must be computed share one reading."""
        indices = [self.measure_index(one) for one in measures]
        return self._answers.statistics(indices, decoding=decoding, rule=rule)

    def kl_nats(self, a: str | int, b: str | int, *, temperature: float) -> PerPosition:
        """KL(a || b) of two models at every row, from candidates and tail; not to write into."""
        pair = Pair(self.measure_index(a), self.measure_index(b))
        return self._answers.divergences([pair], temperature=temperature)[0]

    def answer(
        self,
        measures: Sequence[str | int],
        pairs: Sequence[tuple[str, str]],
        *,
        decoding: Decoding,
        rule: KindRule,
    ) -> None:
        """Let `statistics_of` measures and `kl_nats` of pairs be known, all in one reading."""
        self._answers.both(
            [self.measure_index(one) for one in measures],
            [Pair(self.measure_index(a), self.measure_index(b)) for a, b in pairs],
            decoding=decoding,
            rule=rule,
        )

    def default_statistics(
        self,
        measure: str | int,
        *,
        decoding: Decoding | None = None,
        rule: KindRule | None = None,
    ) -> Statistics | None:
        """The stored statistics of every row, or None.

        None where the run is not complete, or where the decoding or rule asked for (the defaults
        when left out) is not the one they were stored under.
        """
        index = self.measure_index(measure)
        decoding, rule = decoding or Decoding(), rule or KindRule()
        if self.finished is None or not self.finished.holds(decoding=decoding, rule=rule):
            return None
        return self.finished.statistics([index])[0]

    def computed_statistics(
        self,
        measure: str | int,
        *,
        decoding: Decoding,
        rule: KindRule,
        rows: Rows | None = None,
    ) -> Statistics:
        """Statistics of all or some rows, computed from the stored distributions, in blocks."""
        if rows is None:
            parts = [
                self.computed_statistics(measure, decoding=decoding, rule=rule, rows=block)
                for block in self.row_blocks()
            ]
            return joined(parts)
        return statistics(self.distributions(measure, rows=rows), decoding=decoding, rule=rule)

    def row_blocks(self) -> list[Rows]:
        """All rows, so many at a time as are worked on at once; one empty block if there are none.

        The blocks of an array one after the other are the array.
        """
        shards = self.storage_rows // self.plan.layout.shard_rows
        return [np.arange(start, stop) for start, stop in pairwise(block_edges(shards))]

    def carriers(self) -> list[Carrier]:
        """Every carrier of the run, committed or not; `carrier` of a position indexes it."""
        return list(self._carriers)

    @cached_property
    def _carriers(self) -> tuple[Carrier, ...]:
        content = self._flat(f"{CARRIERS}/record").tobytes()
        edges = self._flat(f"{CARRIERS}/record_offset")
        return tuple(carrier_of(piece(content, edges, i)) for i in range(len(edges) - 1))

    def carrier_token_ids(self, carrier: int) -> Int[np.ndarray, " token"]:
        """Prompt and response of one carrier as ids; y_0 is at `response_start(carrier)`."""
        edges = self._flat(f"{CARRIERS}/token_id_offset")
        array = self._open(f"{CARRIERS}/token_id")
        with damage_named(f"{CARRIERS}/token_id"):
            found: np.ndarray = array[int(edges[carrier]) : int(edges[carrier + 1])]
        return found

    def response_start(self, carrier: int) -> int:
        """Index of y_0 in `carrier_token_ids`."""
        return int(self._flat(f"{CARRIERS}/response_start")[carrier])

    def response_lengths(self) -> Int[np.ndarray, " carrier"]:
        """Response tokens of every carrier."""
        tokens = np.diff(self._flat(f"{CARRIERS}/token_id_offset").astype(np.int64))
        lengths: np.ndarray = tokens - self._flat(f"{CARRIERS}/response_start")
        return lengths

    def seam_moved(self, carrier: int) -> bool:
        """Whether a token straddled prompt and response."""
        return bool(self._flat(f"{CARRIERS}/seam_moved")[carrier])

    def response_text(self, carrier: int) -> str:
        """The text that `char_start` and `char_end` of the carrier's positions index."""
        own = piece(self._response_texts, self._flat(f"{CARRIERS}/response_text_offset"), carrier)
        return text_of(own) if own else self._carriers[carrier].response

    @cached_property
    def _response_texts(self) -> bytes:
        return self._flat(f"{CARRIERS}/response_text").tobytes()

    def token_bytes(self, ids: Sequence[int] | Int[np.ndarray, " id"]) -> list[bytes]:
        """The raw bytes of each id; nothing for padding and for ids that have no token.

        Raises:
            IndexError: an id outside the vocabulary.
        """
        content, edges = self._vocabulary_bytes, self._flat(f"{VOCABULARY}/bytes_offset")
        size = len(edges) - 1
        found: list[bytes] = []
        for one in ids:
            if one >= size:
                raise IndexError(f"ids must be below {size}, got {one}")
            found.append(piece(content, edges, int(one)) if one >= 0 else b"")
        return found

    @cached_property
    def _vocabulary_bytes(self) -> bytes:
        return self._flat(f"{VOCABULARY}/bytes").tobytes()

    def _flat(self, name: str) -> np.ndarray:
        """A one-axis array that is not over positions, whole; kept."""
        found = self._flat_arrays.get(name)
        if found is None:
            array = self._open(name)
            with damage_named(name):
                found = self._flat_arrays[name] = array[:]
        return found

    @cached_property
    def _flat_arrays(self) -> dict[str, np.ndarray]:
        return {}


def block_edges(shards: Int[np.ndarray, " row"], *, most: int = BLOCK_ROWS) -> list[int]:
    """Where blocks of at most `most` rows begin, and where the last one ends.

    Whole shards where one or several fit: what two blocks share would be read twice.

    Examples:
        >>> block_edges(np.array([0, 0, 1, 1, 2]), most=3)
        [0, 2, 5]
        >>> block_edges(np.array([0, 0, 0, 0, 1]), most=3)
        [0, 3, 5]
        >>> block_edges(np.array([], dtype=int))
        [0, 0]
    """
    ends = np.append(np.flatnonzero(np.diff(shards)) + 1, len(shards))
    edges = [0]
    while edges[-1] < len(shards) or len(edges) == 1:
        fits = ends[(ends > edges[-1]) & (ends <= edges[-1] + most)]
        edges.append(int(fits[-1]) if len(fits) else min(edges[-1] + most, len(shards)))
    return edges


def open_run(location: str, *, kept_bytes: int = KEPT_BYTES) -> Run:
    """Open a run for reading, at a path or an fsspec URL; it may be still being written.

    Args:
        location: path or URL.
        kept_bytes: of arrays read lately that stay in memory, at most.

    Raises:
        NotARun: nothing there, or something else; what there is, is listed.
        NewerSchema: it was written by a newer version.
        CorruptRun: a committed object is missing or differs; it is named.
    """
    place = place_of(location)
    return Run(place, open_committed(place), kept_bytes=kept_bytes)
