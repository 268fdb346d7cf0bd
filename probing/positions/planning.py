"""What each selector would choose on a few carriers, before anything is scored."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt

from probing.carriers.record import Carrier, Skipped
from probing.errors import NoCarriersLeft
from probing.lexicon import Lexicon
from probing.positions.seeding import carrier_rng
from probing.positions.select import OFF, phases, select_positions, selector_names
from probing.settings import Selection
from probing.tokens.adapter import TokenizerAdapter
from probing.tokens.encoded import EncodedCarrier
from probing.tokens.unusable import UnusableCarrier
from probing.vocabulary import CONTENT_FREE_SELECTORS, Phase, Selector

EXAMPLES = 2
"""Of each selector."""

CONTEXT = 40
"""Characters that an example shows to either side of its token."""

ANY = "any of them"
"""Stands for all selectors together."""

EVERY_BIT = np.uint32(2**32 - 1)


@dataclass(frozen=True)
class EncodedSample:
    """A few carriers as tokens; `skipped` came up in the draw too and cannot be used."""

    encoded: tuple[EncodedCarrier, ...]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class ChosenToken:
    """One chosen position in its text; `token` is empty where it covers no character."""

    carrier_id: str
    position: int
    token_id: int
    before: str
    token: str
    after: str


@dataclass(frozen=True)
class SelectorPlan:
    """What one selector, or all together, choose.

    Attributes:
        name: of the selector.
        carriers: in which it chooses a position.
        positions: that it chooses.
        headline: of these, how many a content-free selector chooses (too): only those carry
            headline figures.
        by_phase: its positions in each phase, in the order of `Phase`.
        examples: spread evenly over its positions.
    """

    name: str
    carriers: int
    positions: int
    headline: int
    by_phase: tuple[int, ...]
    examples: tuple[ChosenToken, ...]


@dataclass(frozen=True)
class PositionPlan:
    """What all selectors choose on a sample.

    Attributes:
        carriers: of the sample.
        response_tokens: of these.
        tokens_by_phase: the same in each phase, in the order of `Phase`.
        selectors: those that are on, in the order of their bits.
        off: names of those that are off.
        chosen: positions that any selector chooses: what a run would score.
    """

    carriers: int
    response_tokens: int
    tokens_by_phase: tuple[int, ...]
    selectors: tuple[SelectorPlan, ...]
    off: tuple[str, ...]
    chosen: SelectorPlan


def encode_sample(
    carriers: Sequence[Carrier],
    *,
    tokenizer: TokenizerAdapter,
    count: int,
    longest: int,
    rng: np.random.Generator,
) -> EncodedSample:
    """Draw carriers until `count` can be used, or none is left; in the order they were given.

    Args:
        carriers: what there is.
        tokenizer: of the models.
        count: how many, at least one.
        longest: response tokens that a carrier may have.
        rng: the source of the draw.

    Raises:
        NoCarriersLeft: none can be used.
    """
    found: dict[int, EncodedCarrier] = {}
    skipped: list[Skipped] = []
    for index in rng.permutation(len(carriers)).tolist():
        if len(found) == count:
            break
        carrier = carriers[index]
        try:
            encoded = tokenizer.encode(carrier)
        except UnusableCarrier as fault:
            skipped.append(Skipped(carrier.carrier_id, 0, fault.reason, fault.detail))
            continue
        if len(encoded.char_spans) > longest:
            detail = f"more than {longest} tokens"
            skipped.append(Skipped(carrier.carrier_id, 0, "over-long response", detail))
            continue
        found[index] = encoded
    if not found:
        first = f"; the first: {skipped[0].reason}: {skipped[0].detail}" if skipped else ""
        raise NoCarriersLeft(
            f"a plan needs a carrier that can be scored, got none of {len(carriers)}{first}; "
            "see README.md, section Carriers, for what a carrier needs"
        )
    return EncodedSample(tuple(found[index] for index in sorted(found)), tuple(skipped))


def plan_positions(
    carriers: Sequence[EncodedCarrier], *, selection: Selection, lexicon: Lexicon
) -> PositionPlan:
    """What every selector chooses in these carriers: the positions that a run chooses there.

    Args:
        carriers: the sample.
        selection: which selectors are on.
        lexicon: the groups.
    """
    found = [_choose(each, selection=selection, lexicon=lexicon) for each in carriers]
    bits = {name: np.uint32(1 << bit) for bit, name in enumerate(selector_names(lexicon))}
    on = [name for name in bits if _is_on(name, selection)]
    return PositionPlan(
        carriers=len(carriers),
        response_tokens=sum(len(each.phase) for each in found),
        tokens_by_phase=_by_phase([each.phase for each in found]),
        selectors=tuple(_plan(name, found, mask=bits[name], bits=bits) for name in on),
        off=tuple(name for name in bits if name not in on),
        chosen=_plan(ANY, found, mask=EVERY_BIT, bits=bits),
    )


@dataclass(frozen=True)
class _Chosen:
    """Every response token of one carrier: selectors that chose it (0 where none), and phase."""

    carrier: EncodedCarrier
    selectors: UInt[np.ndarray, " response"]
    phase: UInt[np.ndarray, " response"]


def _choose(carrier: EncodedCarrier, *, selection: Selection, lexicon: Lexicon) -> _Chosen:
    selected = select_positions(
        carrier,
        selection=selection,
        lexicon=lexicon,
        rng=carrier_rng(selection.seed, carrier.carrier_id),
    )
    selectors = np.zeros(len(carrier.char_spans), dtype=np.uint32)
    selectors[selected.position] = selected.selectors
    return _Chosen(carrier, selectors, phases(carrier, lexicon=lexicon))


def _is_on(name: str, selection: Selection) -> bool:
    """Whether a selector can choose anything; groups of the lexicon go by the window."""
    content_free = {
        str(Selector.INTERVAL): selection.interval_every > 0,
        str(Selector.RANDOM): selection.random_count > 0,
        str(Selector.ALL): selection.all_positions,
    }
    return content_free.get(name, selection.marker_window != OFF)


def _plan(
    name: str, found: Sequence[_Chosen], *, mask: np.uint32, bits: dict[str, np.uint32]
) -> SelectorPlan:
    """What the selectors of a mask choose together."""
    content_free = np.uint32(sum(int(bits[each]) for each in CONTENT_FREE_SELECTORS))
    chosen = [(each.selectors & mask) != 0 for each in found]
    headline = [(each.selectors & content_free) != 0 for each in found]
    places = [
        (index, int(position))
        for index, here in enumerate(chosen)
        for position in np.flatnonzero(here)
    ]
    shown = min(EXAMPLES, len(places))
    return SelectorPlan(
        name=name,
        carriers=sum(bool(here.any()) for here in chosen),
        positions=len(places),
        headline=sum(int((here & both).sum()) for here, both in zip(chosen, headline, strict=True)),
        by_phase=_by_phase([each.phase[here] for each, here in zip(found, chosen, strict=True)]),
        # In the middle of so many equal parts.
        examples=tuple(
            _example(found[index].carrier, position)
            for index, position in (
                places[(2 * part + 1) * len(places) // (2 * shown)] for part in range(shown)
            )
        ),
    )


def _by_phase(parts: Sequence[UInt[np.ndarray, " _"]]) -> tuple[int, ...]:
    counts = np.zeros(len(Phase), dtype=np.int64)
    for part in parts:
        counts += np.bincount(part, minlength=len(Phase))
    return tuple(counts.tolist())


def _example(carrier: EncodedCarrier, position: int) -> ChosenToken:
    start, end = carrier.char_spans[position].tolist()
    return ChosenToken(
        carrier_id=carrier.carrier_id,
        position=position,
        token_id=int(carrier.token_ids[carrier.response_start + position]),
        before=carrier.response_text[max(start - CONTEXT, 0) : start],
        token=carrier.response_text[start:end],
        after=carrier.response_text[end : end + CONTEXT],
    )
