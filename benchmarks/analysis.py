"""How long a new decoding setting takes on a run of a million positions, all in memory.

Rows are made, not scored: logits that fall like a Zipf law of random steepness, with noise, under a
baseline; the other model adds noise of its own; candidates are the union of both models' top 64
ids, with 16 nodes of a tail; the third measure is the mean of the two. `POOL` rows are made and
laid one after the other until there are enough.

Timed are what `comparison_table` asks for: statistics of both models under the new decoding; kinds
by the three assignments; events by the three, in exchanged roles too. By default kinds keep their
own decoding and their statistics come with the run; where they follow the new one, the mean's
statistics come on top and are given apart. Then the grouped deltas of a table, by kind, with
intervals, from its columns.

    python -m benchmarks.analysis [--positions N] [--problems P] [--repeats R] [--json F]
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks import common
from probing.analysis.decoding import Statistics, statistics
from probing.analysis.distributions import Distributions
from probing.analysis.tail import tail_betas, tail_of_rows
from probing.settings import Decoding, KindRule, TailGrid
from probing.vocabulary import PADDING_ID

TOP_K, VOCABULARY = 64, 4096
POOL = 1 << 14


def pool(rng: np.random.Generator, *, rows: int) -> list[Distributions]:
    """The baseline, the other model and their mean, candidates in order of best rank."""
    rank = np.arange(1, VOCABULARY + 1)
    steepness = rng.uniform(0.8, 4.0, size=(rows, 1))
    law = -steepness * np.log(rank) + rng.normal(0, 0.5, size=(rows, VOCABULARY))
    baseline = (law + rng.normal(0, 0.15, size=law.shape)).astype(np.float32)
    other = (law + rng.normal(0, 0.15, size=law.shape)).astype(np.float32)
    models = [baseline, other]
    best = np.full(law.shape, TOP_K)
    for logits in models:
        top = np.argsort(-logits, axis=1)[:, :TOP_K]
        mine = np.full(law.shape, TOP_K)
        np.put_along_axis(mine, top, np.arange(TOP_K)[None], axis=1)
        np.minimum(best, mine, out=best)
    width = int((best < TOP_K).sum(axis=1).max())
    ids = np.argsort(best, axis=1, kind="stable")[:, :width].astype(np.int32)
    used = np.take_along_axis(best, ids, axis=1) < TOP_K
    is_candidate = best < TOP_K
    betas = tail_betas(TailGrid())
    made = []
    for place, logits in enumerate([*models, (baseline + other) / 2]):
        made.append(
            Distributions(
                ids=np.where(used, ids, PADDING_ID).astype(np.int32),
                logits=np.where(used, np.take_along_axis(logits, ids, axis=1), -np.inf).astype(
                    np.float32
                ),
                tail=tail_of_rows(logits, is_candidate, betas=betas),
                betas=betas,
                is_mean=place == 2,
            )
        )
    return made
