"""What the leading tokens of two models say together, of every position of a run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt

from probing.analysis.decoding import nucleus_jaccard
from probing.analysis.distributions import Distributions
from probing.analysis.events import Signs, leading_words, signs
from probing.analysis.moments import top1_id
from probing.analysis.ranking import leading_ids
from probing.analysis.side_by_side import side_by_side
from probing.settings import Decoding, KindRule
from probing.store.reader import Run
from probing.store.words import lexicon_tokens, realised_corrections, shared_prefix
from probing.vocabulary import PADDING_ID, PerPosition, PositionIds, PositionMask


@dataclass(frozen=True)
class PairFacts:
    """Of the baseline and one other model.

    Attributes:
        signs: what events look at.
        shared_prefix: one of either model's two leading tokens begins the other.
    """

    signs: Signs
    shared_prefix: PositionMask

    def packed(self) -> UInt[np.ndarray, " position"]:
        """A bit for each fact, in the order of `_BITS`."""
        masks = [getattr(self.signs, name) for name in _SIGNS] + [self.shared_prefix]
        bits = [mask.astype(np.uint8) << np.uint8(bit) for bit, mask in enumerate(masks)]
        return np.asarray(np.bitwise_or.reduce(bits), dtype=np.uint8)

    @classmethod
    def unpacked(cls, bits: UInt[np.ndarray, " position"]) -> "PairFacts":
        """The inverse of `packed`."""
        *seen, prefix = ((bits >> np.uint8(bit) & 1).astype(bool) for bit in range(len(_SIGNS) + 1))
        return cls(Signs(**dict(zip(_SIGNS, seen, strict=True))), prefix)


_SIGNS = tuple(field.name for field in fields(Signs))


class BlockFacts(NamedTuple):
    """Facts of some rows; `leading` holds two ids of each row, for either model."""

    signs: Signs
    leading: list[Int[np.ndarray, "position 2"]]


def pair_facts(run: Run, other: str, *, temperature: float, rule: KindRule) -> PairFacts:
    """Those stored with the run where they were asked for alike, else computed.

    Args:
        run: the run.
        other: name of the other model.
        temperature: at which tokens are close: that of the kinds.
        rule: says which tokens are close.
    """
    if run.finished is not None:
        pair = run.measure_index(other) - 1
        kept = run.finished.pair_signs(pair, temperature=temperature, rule=rule)
        if kept is not None:
            return PairFacts.unpacked(kept)
    seen = facts_reader(run, temperature=temperature, rule=rule)
    return joined_facts(run, side_by_side(lambda rows: seen(other, rows), run.row_blocks()))


def facts_reader(
    run: Run, *, temperature: float, rule: KindRule
) -> Callable[[str, PositionIds], BlockFacts]:
    """What computes the facts of an other model at some rows, from the stored distributions.

    Args:
        run: as `pair_facts`.
        temperature: as `pair_facts`.
        rule: as `pair_facts`.
    """
    tokens, realised = lexicon_tokens(run), realised_corrections(run)

    def seen(other: str, rows: PositionIds) -> BlockFacts:
        pair = _pair(run, other, rows)
        words = [
            leading_words(one, tokens=tokens, temperature=temperature, rule=rule) for one in pair
        ]
        found = signs(*words, realised_correction=realised[rows])
        return BlockFacts(found, [leading_ids(one, count=2) for one in pair])

    return seen


def joined_facts(run: Run, blocks: Sequence[BlockFacts]) -> PairFacts:
    """Facts of every row of the run, from those of its blocks in their order."""
    prefixes = [
        shared_prefix(run, np.concatenate([block.leading[side] for block in blocks]))
        for side in (0, 1)
    ]
    seen = {
        name: np.concatenate([getattr(block.signs, name) for block in blocks]) for name in _SIGNS
    }
    return PairFacts(Signs(**seen), prefixes[0] | prefixes[1])


def pair_gaps(run: Run, other: str) -> Float[np.ndarray, "position side"]:
    """How far each model's top token lies below the top of the *other* model, in logits, <= 0.

    Side 0 is the baseline's top token under the other model, side 1 the other's under the baseline.
    -inf where the token is masked there; NaN where it is no candidate. Stored or computed.
    """
    pair = run.measure_index(other) - 1
    kept = None if run.finished is None else run.finished.pair_gaps(pair)
    if kept is not None:
        return kept
    return np.concatenate(side_by_side(lambda rows: block_gaps(run, other, rows), run.row_blocks()))


def block_gaps(run: Run, other: str, rows: PositionIds) -> Float[np.ndarray, "position side"]:
    """`pair_gaps` of some rows, from the stored distributions."""
    baseline, beside = _pair(run, other, rows)
    return np.stack([_gap(beside, top1_id(baseline)), _gap(baseline, top1_id(beside))], axis=1)


def _gap(rows: Distributions, ids: PositionIds) -> PerPosition:
    """The logit of one id of each row less the row's largest; NaN where it is no candidate."""
    place = (rows.ids == ids[:, None]) & (ids != PADDING_ID)[:, None]
    at = place.argmax(axis=1)[:, None]
    own = np.take_along_axis(rows.logits, at, axis=1)[:, 0].astype(np.float64)
    gap = own - rows.logits.max(axis=1)
    return np.where(place.any(axis=1), gap, np.nan)


def pair_overlap(run: Run, other: str, *, decoding: Decoding) -> PerPosition:
    """`nucleus_jaccard` of the baseline and the other model; stored or computed."""
    pair = run.measure_index(other) - 1
    kept = None if run.finished is None else run.finished.overlap(pair, decoding=decoding)
    if kept is not None:
        return kept
    return np.concatenate(
        side_by_side(
            lambda rows: block_overlap(run, other, rows, decoding=decoding), run.row_blocks()
        )
    )


def block_overlap(run: Run, other: str, rows: PositionIds, *, decoding: Decoding) -> PerPosition:
    """`pair_overlap` of some rows, from the stored distributions."""
    return nucleus_jaccard(*_pair(run, other, rows), decoding=decoding)


def _pair(run: Run, other: str, rows: PositionIds) -> list[Distributions]:
    return [run.distributions(name, rows=rows) for name in (run.model_names[0], other)]
