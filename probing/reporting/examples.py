"""One position at a time: which to look at, its context, and the two models' top lists."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
from jaxtyping import Int

from probing.analysis.decoding import Kept, kept_probabilities
from probing.reporting.comparison import other_index
from probing.reporting.places import token_texts
from probing.reporting.quantities import delta_column
from probing.reporting.text import marked, plain, token_text
from probing.settings import Decoding
from probing.store.reader import Run
from probing.vocabulary import PADDING_ID, PositionIds

TOP_TOKENS = 10
"""Tokens of each model that an example lists."""

CHARACTERS_BEFORE, CHARACTERS_AFTER = 400, 160


class Order(StrEnum):
    """In which order examples are offered."""

    INCREASE = "largest increase"
    DECREASE = "largest decrease"
    CHANGE = "largest change"
    RANDOM = "random"


@dataclass(frozen=True)
class Context:
    """What stands around a position.

    Attributes:
        prompt: the whole prompt as the models saw it, special tokens included.
        before: prompt and response up to the token, the last `CHARACTERS_BEFORE` characters.
        token: the realised token's characters; of a token that covers none, its own text.
        after: what follows in the response, at most `CHARACTERS_AFTER` characters.
    """

    prompt: str
    before: str
    token: str
    after: str


def ranked_positions(
    comparison: pd.DataFrame, *, by: str, order: Order, seed: int = 0
) -> pd.DataFrame:
    """The positions in the order in which examples are offered.

    Positions where the quantity is not measured are left out, except in random order.

    Args:
        comparison: of `comparison_table`, filtered.
        by: name of the quantity whose delta (or, for a pair quantity, value) ranks them.
        order: ties keep the order of the comparison.
        seed: of the random order.
    """
    if order is Order.RANDOM:
        chosen = np.random.default_rng(seed).permutation(len(comparison))
        return comparison.iloc[chosen]
    values = comparison[delta_column(by)]
    measured = comparison[values.notna()]
    key = {
        Order.INCREASE: -values,
        Order.DECREASE: values,
        Order.CHANGE: -values.abs(),
    }[order]
    places = np.argsort(key[values.notna()].to_numpy(), kind="stable")
    return measured.iloc[places]


def example_table(
    run: Run, row: int, *, other: str, decoding: Decoding, top: int = TOP_TOKENS
) -> pd.DataFrame:
    """The two models' top tokens at one position, side by side.

    Columns: `rank` (place in the list, 1-based; ties by id); for each side `baseline` and `other`:
    `_token`, `_id`, `_prob` (at T, before truncation), `_kept_prob` (after; 0 = cut); then
    `other_baseline_rank`, the rank that the other's token has under the baseline, and
    `rank_change`, that rank less the token's own (positive: it moved up). Both are missing where
    the token lies beyond the ranks that the run knows exactly.

    Raises:
        UsageFault: no such other model.
        IndexError: no such row.
        OutsideContract: a temperature or top-k the run cannot answer exactly.
    """
    other_index(run, other)
    rows = np.array([row])
    first = run.distributions(run.model_names[0], rows=rows)
    a = kept_probabilities(first, decoding=decoding)
    b = kept_probabilities(run.distributions(other, rows=rows), decoding=decoding)
    ids = first.ids[0]
    top_a, top_b = _leading(a, ids, top=top), _leading(b, ids, top=top)
    shown = max(len(top_a), len(top_b))
    columns: dict[str, object] = {"rank": np.arange(1, shown + 1)}
    for side, kept, places in (("baseline", a, top_a), ("other", b, top_b)):
        columns[f"{side}_token"] = pd.Series(token_texts(run, ids[places]), dtype="str")
        columns[f"{side}_id"] = pd.Series(ids[places], dtype="Int64")
        columns[f"{side}_prob"] = pd.Series(kept.probability[0, places])
        columns[f"{side}_kept_prob"] = pd.Series(kept.kept[0, places])
    before, now = _known(a.rank[0, top_b]), _known(b.rank[0, top_b])
    columns["other_baseline_rank"] = before
    columns["rank_change"] = before - now
    return pd.DataFrame(columns)


def _leading(kept: Kept, ids: PositionIds, *, top: int) -> Int[np.ndarray, " place"]:
    """Places of the candidates with an exact rank, best first, ties by id; at most `top`."""
    rank = kept.rank[0]
    order = np.lexsort((ids, rank))
    usable = order[(rank[order] > 0) & (ids[order] != PADDING_ID)]
    return np.asarray(usable[:top])


def _known(ranks: Int[np.ndarray, " place"]) -> pd.Series:
    """Ranks with 0 (beyond what is exact) as missing."""
    return pd.Series(ranks, dtype="Int64").mask(pd.Series(ranks == 0))


def example_context(run: Run, row: int) -> Context:
    """The text around one position, by the character spans stored with it.

    Raises:
        IndexError: no such row.
    """
    if not 0 <= row < len(run):
        raise IndexError(f"row must be in 0 … {len(run) - 1}, got {row}")
    positions = run.positions()
    carrier = int(positions.carrier[row])
    text = run.response_text(carrier)
    start, end = int(positions.char_start[row]), int(positions.char_end[row])
    prompt_ids = run.carrier_token_ids(carrier)[: run.response_start(carrier)]
    prompt = token_text(b"".join(run.token_bytes(prompt_ids)))
    return Context(
        prompt=prompt,
        before=(prompt + text[:start])[-CHARACTERS_BEFORE:],
        token=text[start:end] or token_text(run.token_bytes(positions.token_id[row : row + 1])[0]),
        after=text[end : end + CHARACTERS_AFTER],
    )


def shown_context(run: Run, row: int) -> str:
    """The context as one text for a page, the token between marks that occur nowhere else."""
    context = example_context(run, row)
    return marked(context.before, context.token, context.after)


def shown_prompt(run: Run, row: int) -> str:
    """The whole prompt for a page, controls escaped."""
    return plain(example_context(run, row).prompt)
