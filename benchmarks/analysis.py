"""How long a new decoding setting takes on a run of a million positions, from arrays in memory.

Logits fall like Zipf laws of random steepness, with noise; each of two models adds noise of its
own, the third measure is their mean. Candidates are the union of both models' top 64 ids; the rest
of 4,096 ids is a tail of 16 nodes. So many rows as `POOL` says are made, and repeated.

Timed is what `comparison_table` asks for, in the blocks of `Run.row_blocks`, side by side:

  statistics  of both models under the new decoding; and of the mean, which is needed only where
              kinds are taken under the new decoding too (by default they keep their own)
  kinds       by the three assignments
  events      leading words of both models, events by the three assignments, also in exchanged
              roles, and the two leading ids that `shared_prefix` looks at

and, with those at hand, deltas by kind of `SHOWN_FIRST`: `intervals` is the bootstrap on arrays
(`analysis.deltas`), `delta_table` the table of a page, from the data frame, with its nulls.

    python -m benchmarks.analysis [--positions N] [--problems P] [--repeats R] [--json F]
"""

import os
import time
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import common
from probing.analysis.decoding import Statistics, statistics
from probing.analysis.deltas import kind_intervals
from probing.analysis.distributions import Distributions, Tail
from probing.analysis.events import LexiconTokens, PairKinds, events, leading_words, signs
from probing.analysis.kinds import kinds
from probing.analysis.ranking import leading_ids
from probing.analysis.side_by_side import side_by_side
from probing.analysis.tail import tail_betas, tail_of_rows
from probing.reporting.comparison import EXCHANGED_TOP1, kind_column
from probing.reporting.deltas import delta_table
from probing.reporting.happenings import event_column, exchanged_event_column, labelled
from probing.reporting.quantities import (
    QUANTITIES,
    SHOWN_FIRST,
    baseline_column,
    delta_column,
    other_column,
)
from probing.settings import Decoding, Inference, KindRule, TailGrid
from probing.store.reader import BLOCK_ROWS
from probing.vocabulary import PADDING_ID, Assignment, Event, Kind, PerPosition, Stratum

TOP_K, VOCABULARY, POOL = 64, 4096, 4096
MODEL_NOISE = 0.3
DECODING, RULE = Decoding(temperature=0.7, top_k=20, top_p=0.9), KindRule()

Codes = dict[Assignment, np.ndarray]


def measures(positions: int, rng: np.random.Generator) -> list[Distributions]:
    """The baseline, the other model and their mean, candidates in order of best rank."""
    shape = (min(POOL, positions), VOCABULARY)
    law = -rng.uniform(0.8, 4.0, size=(shape[0], 1)) * np.log1p(np.arange(VOCABULARY))
    law += rng.normal(0, 0.5, size=shape)
    models = [(law + rng.normal(0, MODEL_NOISE, size=shape)).astype(np.float32) for _ in range(2)]
    rank = np.min([np.argsort(np.argsort(-logits, axis=1), axis=1) for logits in models], axis=0)
    candidate = rank < TOP_K
    width = int(candidate.sum(axis=1).max())
    ids = np.argsort(rank, axis=1, kind="stable")[:, :width].astype(np.int32)
    used = np.take_along_axis(candidate, ids, axis=1)
    betas, repeat = tail_betas(TailGrid()), np.arange(positions) % shape[0]
    repeated_ids = np.where(used, ids, np.int32(PADDING_ID))[repeat]
    made = []
    for logits in (*models, (models[0] + models[1]) / 2):
        own = np.where(used, np.take_along_axis(logits, ids, axis=1), np.float32(-np.inf))
        tail = tail_of_rows(logits, candidate, betas=betas)
        repeated = Tail(**{each.name: getattr(tail, each.name)[repeat] for each in fields(Tail)})
        mean = len(made) == len(models)
        made.append(Distributions(repeated_ids, own[repeat], repeated, betas, is_mean=mean))
    return made


def row_blocks(positions: int) -> list[slice]:
    """As `Run.row_blocks`."""
    return [slice(i, i + BLOCK_ROWS) for i in range(0, positions, BLOCK_ROWS)]


def all_statistics(rows: Distributions) -> Statistics:
    """As `Run.computed_statistics`, without reading."""
    parts = side_by_side(
        lambda block: statistics(rows.part(block), decoding=DECODING, rule=RULE),
        row_blocks(len(rows.ids)),
    )
    return Statistics(
        **{
            each.name: np.concatenate([getattr(part, each.name) for part in parts])
            for each in fields(Statistics)
        }
    )


def all_kinds(known: list[Statistics]) -> Codes:
    """By whose distribution; `known` is of the baseline, the other and the mean."""
    order = (Assignment.BASELINE, Assignment.OTHER, Assignment.MEAN)
    return {each: kinds(stats, rule=RULE) for each, stats in zip(order, known, strict=True)}


def all_events(
    pair: list[Distributions], codes: Codes, change: PerPosition
) -> dict[str, np.ndarray]:
    """As `event_columns`, without the text of a run."""
    ids = np.arange(VOCABULARY)
    tokens = LexiconTokens(self_correction=ids % 101 == 3, think_close=ids == 40)
    realised = np.arange(len(change)) % 50 == 0
    swap = {Assignment.BASELINE: Assignment.OTHER, Assignment.OTHER: Assignment.BASELINE}

    def of_block(block: slice) -> dict[str, np.ndarray]:
        parts = [rows.part(block) for rows in pair]
        words = [leading_words(part, tokens=tokens, temperature=1.0, rule=RULE) for part in parts]
        found = {"leading": np.concatenate([leading_ids(part, count=2) for part in parts], axis=1)}
        seen = signs(*words, realised_correction=realised[block])
        sides = [codes[each][block] for each in (Assignment.BASELINE, Assignment.OTHER)]
        for each in Assignment:
            for column, assigned, step in (
                (event_column(each), each, 1),
                (exchanged_event_column(each), swap.get(each, each), -1),
            ):
                found[column] = events(
                    PairKinds(codes[assigned][block], *sides[::step]),
                    seen,
                    entropy_change=step * change[block],
                )
        return found

    parts = side_by_side(of_block, row_blocks(len(change)))
    return {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}


def comparison(
    known: list[Statistics], codes: Codes, happened: dict[str, np.ndarray], *, problems: int
) -> pd.DataFrame:
    """The columns of a comparison that a delta table reads; some quantities stand for others."""
    rows = len(codes[Assignment.MEAN])
    carrier = np.arange(rows) * 2 * problems // rows
    columns: dict[str, Any] = {
        "carrier": carrier,
        "problem_id": np.array([f"problem-{i // 2}" for i in range(2 * problems)])[carrier],
        "headline": True,
        "marker": False,
        "selectors": "interval",
        "inclusion": 0.125,
        "sampling_probability": 1.0,
    }
    for each in Assignment:
        columns[kind_column(each)] = labelled(codes[each], [kind.value for kind in Kind])
        for name in (event_column(each), exchanged_event_column(each)):
            columns[name] = labelled(happened[name], [event.value for event in Event])
    for name, quantity in QUANTITIES.items():
        stands = name if name in {each.name for each in fields(Statistics)} else "top1_prob"
        first, second = (getattr(stats, stands) for stats in known[:2])
        with np.errstate(invalid="ignore"):
            change = second - first
        columns[delta_column(name)] = np.where(np.isfinite(change), change, np.nan)
        if quantity.of == "model":
            columns[baseline_column(name)], columns[other_column(name)] = first, second
    columns |= dict.fromkeys(EXCHANGED_TOP1, known[0].top1_prob)
    return pd.DataFrame(columns)


def interval_columns(frame: pd.DataFrame, codes: Codes, *, problems: int) -> None:
    """The intervals of every kind, on arrays."""
    kind_intervals(
        frame[[delta_column(name) for name in SHOWN_FIRST]].to_numpy(),
        kind_codes=codes[Assignment.MEAN],
        weights=np.ones(len(frame)),
        clusters=frame["carrier"].to_numpy() // 2,
        settings=Inference(),
        rng=np.random.default_rng(0),
    )


class Clock:
    """Seconds of named steps, wall and of all cores together, over repeats."""

    def __init__(self) -> None:
        self.wall: dict[str, list[float]] = {}
        self.cores: dict[str, list[float]] = {}

    def time(self, name: str, step: Callable[[], Any]) -> Any:
        """What the step returns."""
        wall, cores = time.perf_counter(), time.process_time()
        result = step()
        self.wall.setdefault(name, []).append(time.perf_counter() - wall)
        self.cores.setdefault(name, []).append(time.process_time() - cores)
        return result

    def medians(self) -> dict[str, dict[str, float]]:
        """Seconds by step."""
        return {
            name: {
                "seconds": float(np.median(self.wall[name])),
                "core_seconds": float(np.median(self.cores[name])),
            }
            for name in self.wall
        }


def main() -> None:
    """Measure and print."""
    parser = common.parser(__doc__)
    parser.add_argument("--positions", type=int, default=1_000_000)
    parser.add_argument("--problems", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    print(f"{common.machine()}, {os.cpu_count()} cores, NumPy {np.__version__}", flush=True)
    made = measures(asked.positions, np.random.default_rng(0))
    width = np.isfinite(made[0].logits[:POOL]).sum(axis=1)
    print(f"{asked.positions:,} positions, {width.mean():.0f} candidates, at most {width.max()}")
    common.forget_peak()
    before, clock = common.resident_mb(), Clock()
    for _ in range(asked.repeats):
        known = clock.time("statistics", lambda: [all_statistics(rows) for rows in made[:2]])
        known.append(clock.time("mean_statistics", lambda: all_statistics(made[2])))
        codes = clock.time("kinds", lambda known=known: all_kinds(known))
        change = known[1].entropy_nats - known[0].entropy_nats
        happened = clock.time(
            "events", lambda codes=codes, change=change: all_events(made[:2], codes, change)
        )
    extra_mb = common.resident_mb("VmHWM") - before
    frame = comparison(known, codes, happened, problems=asked.problems)
    for _ in range(asked.repeats):
        clock.time("intervals", lambda: interval_columns(frame, codes, problems=asked.problems))
        clock.time("delta_table", lambda: delta_table(frame, by=[Stratum.KIND]))
    found = clock.medians()
    for name in ("seconds", "core_seconds"):
        steps = [found[step][name] for step in ("statistics", "kinds", "events")]
        found.setdefault("sum", {})[name] = sum(steps)
        found.setdefault("sum_with_mean", {})[name] = sum(steps) + found["mean_statistics"][name]
    for step, each in found.items():
        print(f"{step:16} {each['seconds']:6.2f} s, {each['core_seconds']:6.2f} s of all cores")
    print(f"{extra_mb:.0f} MB at most beside the rows (statistics, kinds, events)")
    result = {"positions": asked.positions, "extra_mb": extra_mb, "steps": found}
    common.write_json(asked.json, result)


if __name__ == "__main__":
    main()
