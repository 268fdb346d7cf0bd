"""Carriers and positions of a run as tidy columns: everything that no model decides."""

import dataclasses
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from jaxtyping import Shaped

from probing.carriers.strata import right_model, strata
from probing.reporting.text import token_class, token_text
from probing.store.reader import Run
from probing.vocabulary import CONTENT_FREE_SELECTORS, PerPosition, Phase, PositionIds

THIRDS = ("first third", "middle third", "last third")

CARRIER_COLUMNS = ("carrier_id", "problem_id", "sampling_probability", "response_tokens")


def carrier_table(run: Run) -> pd.DataFrame:
    """One row per carrier, scored or not yet: ids, strata, length, sampling probability.

    Length bins are quantiles over the carriers of this run, so their labels differ between runs.
    """
    carriers, lengths = run.carriers(), run.response_lengths()
    bins = run.manifest.settings.sampling.length_bins
    labels = strata(carriers, lengths=lengths.tolist(), bins=bins)
    known = pd.DataFrame(
        [
            (c.carrier_id, c.problem_id, c.sampling_probability, length)
            for c, length in zip(carriers, lengths.tolist(), strict=True)
        ],
        columns=list(CARRIER_COLUMNS),
    )
    return known.join(pd.DataFrame([dataclasses.asdict(label) for label in labels]))


_PLACES: WeakKeyDictionary[Run, pd.DataFrame] = WeakKeyDictionary()


def place_table(run: Run) -> pd.DataFrame:
    """One row per position: its carrier's columns, where it stands, and why it was chosen.

    Made once for an opened run: do not write into it.

    `headline` marks positions chosen without looking at the text (interval, random, all), `marker`
    those that a lexicon group chose; a position can be both. `row` is the index that `Run` takes.
    """
    if run not in _PLACES:
        _PLACES[run] = _made_places(run)
    return _PLACES[run]


def _made_places(run: Run) -> pd.DataFrame:
    positions = run.positions()
    names = run.manifest.selector_names
    carriers = carrier_table(run)
    frame = pd.DataFrame(
        {
            "row": np.arange(len(run)),
            **{
                str(name): _of_carriers(column, positions.carrier)
                for name, column in carriers.items()
            },
        }
    )
    fraction = positions.position / frame["response_tokens"].to_numpy()
    phases = [phase.value for phase in Phase]
    place, ids = pd.factorize(positions.token_id)
    tokens = token_texts(run, ids)
    chosen, masks = pd.factorize(positions.selectors)
    return frame.assign(
        carrier=positions.carrier,
        position=positions.position,
        fraction=fraction,
        third=named(THIRDS, np.minimum(fraction * 3, 2).astype(np.int64)),
        phase=named(phases, positions.phase.astype(np.int64)),
        token_id=positions.token_id,
        token=named(tokens.tolist(), place),
        token_class=named([token_class(token).value for token in tokens], place),
        char_start=positions.char_start,
        char_end=positions.char_end,
        selectors=named(_selector_texts(masks, names), chosen),
        headline=chosen_by(positions.selectors, names, [*CONTENT_FREE_SELECTORS]),
        marker=chosen_by(
            positions.selectors, names, [n for n in names if n not in CONTENT_FREE_SELECTORS]
        ),
        inclusion=positions.inclusion,
    )


def _of_carriers(values: pd.Series, carrier: PositionIds) -> "PerPosition | pd.Categorical[str]":
    """What the carrier of every position has; texts as labels."""
    if pd.api.types.is_numeric_dtype(values.dtype):
        return np.asarray(values.to_numpy()[carrier])
    return named(values.tolist(), carrier)


def named(texts: Sequence[str], codes: PositionIds) -> "pd.Categorical[str]":
    """The text of every code, as a categorical whose labels are the texts, sorted.

    A million positions share few texts: held once, they group and filter many times faster.

    Args:
        texts: of every code; two codes may have the same.
        codes: of the positions.
    """
    labels, label = np.unique(np.asarray(texts, dtype=object), return_inverse=True)
    found: pd.Categorical[str] = pd.Categorical.from_codes(
        label[codes], categories=pd.Index(labels, dtype="str")
    )
    return found


def right_models(run: Run, other: str) -> "pd.Categorical[str]":
    """Which of the two models got the problem of each position right; see `right_model`."""
    carriers = run.carriers()
    labels = right_model(carriers, baseline=run.model_names[0], other=other)
    return named([labels[carrier.problem_id] for carrier in carriers], run.positions().carrier)


def token_texts(run: Run, ids: PositionIds) -> Shaped[np.ndarray, " position"]:
    """The text of every id; each distinct id is looked up once."""
    distinct, place = np.unique(ids, return_inverse=True)
    texts = [token_text(content) for content in run.token_bytes(distinct)]
    return np.array([*texts, ""], dtype=object)[place]


def chosen_by(
    masks: Shaped[np.ndarray, " position"], names: Sequence[str], wanted: Sequence[str]
) -> Shaped[np.ndarray, " position"]:
    """Whether any of the wanted selectors chose each position. Selectors not in `names` never do.

    Args:
        masks: bit b is selector `names[b]`.
        names: of the bits, lowest first.
        wanted: names of selectors.
    """
    bits = sum(1 << bit for bit, name in enumerate(names) if name in wanted)
    return np.asarray((masks & np.uint32(bits)) != 0)


def _selector_texts(masks: Shaped[np.ndarray, " mask"], names: Sequence[str]) -> list[str]:
    return [
        " ".join(name for bit, name in enumerate(names) if int(mask) >> bit & 1) for mask in masks
    ]


def headline_weights(places: pd.DataFrame) -> PerPosition:
    """What every position counts in headline figures, before any filter.

    The inverse of its inclusion and its carrier's sampling probability; 0 where no selector that is
    blind to content chose it.
    """
    inclusion = places["inclusion"].to_numpy(dtype=np.float64)
    inverse = np.divide(1.0, inclusion, out=np.zeros(len(places)), where=inclusion > 0)
    return np.asarray(inverse / places["sampling_probability"].to_numpy(dtype=np.float64))
