"""One position at a time: which to look at, its context, and the two models' top lists."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from probing.analysis.decoding import Kept, kept_probabilities
from probing.analysis.distributions import Distributions
from probing.reporting.comparison import kind_column, other_index
from probing.reporting.happenings import event_column
from probing.reporting.places import token_texts
from probing.reporting.quantities import delta_column
from probing.reporting.text import marked, plain, token_text
from probing.settings import Decoding
from probing.store.reader import Run
from probing.vocabulary import PADDING_ID, Assignment, PerPosition, PositionIds

LONGEST_INDEX = 18
"""Digits of a token's place: what a link can ask for without being refused."""

TOP_TOKENS = 10
"""Tokens of each model that an example lists."""

CHARACTERS_BEFORE, CHARACTERS_AFTER = 400, 160
SNIPPET_BEFORE, SNIPPET_AFTER = 60, 20


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
    return comparison.iloc[ranked_places(comparison, by=by, order=order, seed=seed)]


def ranked_places(comparison: pd.DataFrame, *, by: str, order: Order, seed: int = 0) -> PositionIds:
    """Which places of a comparison `ranked_positions` offers, in its order."""
    if order is Order.RANDOM:
        return np.random.default_rng(seed).permutation(len(comparison))
    values = comparison[delta_column(by)].to_numpy(dtype=np.float64)
    measured = np.flatnonzero(~np.isnan(values))
    key = {
        Order.INCREASE: -values,
        Order.DECREASE: values,
        Order.CHANGE: -np.abs(values),
    }[order]
    places: PositionIds = measured[np.argsort(key[measured], kind="stable")]
    return places


def position_list(
    run: Run,
    positions: pd.DataFrame,
    *,
    by: str,
    compared: Mapping[str, pd.DataFrame] | None = None,
) -> pd.DataFrame:
    """Positions as a list that one can choose from.

    Columns `carrier_id`, `position` (from 0), `generator`, `context` (a line of text around the
    token, which stands between marks), `kind`, `event` (by the mean), `delta` (of `by`); where
    there is a control `control_delta`, that of the same position under it, and `difference`.

    Args:
        run: the run.
        positions: of `ranked_positions`, as many as are to be listed.
        by: the quantity that ranks them.
        compared: of `comparisons`; without it the control is left out.
    """
    contexts = [
        snippet(run, int(row), before=SNIPPET_BEFORE, after=SNIPPET_AFTER)
        for row in positions["row"]
    ]
    return pd.DataFrame(
        {
            "carrier_id": positions["carrier_id"],
            "position": positions["position"],
            "generator": positions["generator"],
            "context": pd.Series(contexts, index=positions.index, dtype="str"),
            "kind": positions[kind_column(Assignment.MEAN)],
            "event": positions[event_column(Assignment.MEAN)],
            "delta": positions[delta_column(by)],
            **_deltas_beside(positions["row"].to_numpy(), by=by, compared=compared or {}),
        }
    ).reset_index(drop=True)


BESIDE = ("control_delta", "difference")
"""Columns of a list for the comparisons after that of the other model, in their order."""


def _deltas_beside(
    rows: PositionIds, *, by: str, compared: Mapping[str, pd.DataFrame]
) -> dict[str, PerPosition]:
    """The same positions' deltas under the comparisons after the first, by column."""
    _, *beside = compared.values() if compared else (None,)
    return {
        column: frame.set_index("row").loc[rows, delta_column(by)].to_numpy(dtype=np.float64)
        for column, frame in zip(BESIDE, beside, strict=False)
    }


def position_name(position: pd.Series) -> str:
    """The name of a position that outlives its place in a table: response and token."""
    return f"{position['carrier_id']}:{position['position']}"


def position_names(positions: pd.DataFrame) -> list[str]:
    """The name of each position; see `position_name`."""
    return [position_name(position) for _, position in positions.iterrows()]


def position_named(comparison: pd.DataFrame, name: str) -> pd.Series | None:
    """The position of this name; None where there is none, whatever the name is."""
    carrier, colon, index = name.rpartition(":")
    if not (colon and index.isascii() and index.isdigit() and len(index) <= LONGEST_INDEX):
        return None
    here = (comparison["carrier_id"] == carrier) & (comparison["position"] == int(index))
    return comparison[here].iloc[0] if here.any() else None


def snippet(run: Run, row: int, *, before: int, after: int) -> str:
    """One line around a position: so many characters before and after its token."""
    context = example_context(run, row)
    shown = marked(context.before[-before:], context.token, context.after[:after])
    return " ".join(shown.split())


def example_table(
    run: Run,
    row: int,
    *,
    other: str,
    decoding: Decoding,
    control: str | None = None,
    top: int = TOP_TOKENS,
) -> pd.DataFrame:
    """The models' top tokens at one position, side by side.

    Columns: `rank` (place in the list, 1-based; ties by id); for each side `baseline`, `other` and,
    where there is a control, `control`: `_token`, `_id`, `_prob` (at T, before truncation),
    `_kept_prob` (after; 0 = cut), `_tied` (another token has the same logit), `_change` (`ENTERS`
    or `LEAVES`, by the baseline's nucleus against this side's; of the baseline's tokens, against
    the other's; else empty, missing where a nucleus is not known); then `other_baseline_rank`, the
    rank that the other's token has under the baseline, and `rank_change`, that rank less the
    token's own (positive: it moved up). Both are missing where the token lies beyond the ranks that
    the run knows exactly.

    Args:
        run: the run.
        row: index of the position.
        other: name of the other model.
        decoding: temperature and truncation of the probabilities.
        control: name of the model beside it.
        top: how many tokens of each.

    Raises:
        UsageFault: no such other model.
        IndexError: no such row.
        OutsideContract: a temperature or top-k the run cannot answer exactly.
    """
    names = {"baseline": run.model_names[0], "other": other}
    if control is not None:
        names["control"] = control
    for name in names.values():
        if name != run.model_names[0]:
            other_index(run, name)
    rows = np.array([row])
    ids = run.array("candidate_id", rows)[0]
    read = {side: run.distributions(name, rows=rows) for side, name in names.items()}
    found = {side: kept_probabilities(one, decoding=decoding) for side, one in read.items()}
    leading = {side: _leading(kept, ids, top=top) for side, kept in found.items()}
    shown = max(len(places) for places in leading.values())
    columns: dict[str, object] = {"rank": np.arange(1, shown + 1)}
    for side, kept in found.items():
        places = leading[side]
        columns[f"{side}_token"] = pd.Series(token_texts(run, ids[places]), dtype="str")
        columns[f"{side}_id"] = pd.Series(ids[places], dtype="Int64")
        columns[f"{side}_prob"] = pd.Series(kept.probability[0, places])
        columns[f"{side}_kept_prob"] = pd.Series(kept.kept[0, places])
        columns[f"{side}_tied"] = pd.Series(_tied(read[side])[places], dtype="boolean")
        after = found["other" if side == "baseline" else side]
        columns[f"{side}_change"] = _changes(
            found["baseline"].kept[0, places], after.kept[0, places]
        )
    own = leading["other"]
    before, now = _known(found["baseline"].rank[0, own]), _known(found["other"].rank[0, own])
    columns["other_baseline_rank"] = before
    columns["rank_change"] = before - now
    return pd.DataFrame(columns)


def _leading(kept: Kept, ids: PositionIds, *, top: int) -> Int[np.ndarray, " place"]:
    """Places of the candidates with an exact rank, best first, ties by id; at most `top`."""
    rank = kept.rank[0]
    order = np.lexsort((ids, rank))
    usable = order[(rank[order] > 0) & (ids[order] != PADDING_ID)]
    return np.asarray(usable[:top])


ENTERS, LEAVES = "enters", "leaves"
"""What a token does that only the other's nucleus holds, or only the baseline's."""


def _tied(rows: Distributions) -> Bool[np.ndarray, " candidate"]:
    """Whether another token, a candidate of the one row or not, has the same logit."""
    logits = rows.logits[0]
    _, place, count = np.unique(logits, return_inverse=True, return_counts=True)
    return np.asarray((count[place] > 1) | (logits == rows.tail.reference[0]))


def _changes(before: Float[np.ndarray, " place"], after: Float[np.ndarray, " place"]) -> pd.Series:
    """Which tokens come into the nucleus and which go, by their probability in each (0 = cut)."""
    enters, leaves = (before == 0) & (after > 0), (before > 0) & (after == 0)
    words = np.select([enters, leaves], [ENTERS, LEAVES], "")
    return pd.Series(words, dtype="str").mask(np.isnan(before) | np.isnan(after))


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
