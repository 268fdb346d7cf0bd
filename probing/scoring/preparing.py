"""From carrier files to work: read, grade, encode, sample, choose positions."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from probing.carriers.grading import grade
from probing.carriers.reading import read_carriers
from probing.carriers.record import Carrier, Skipped
from probing.carriers.sampling import Cell, sample_carriers
from probing.errors import NoCarriersLeft
from probing.lexicon import Lexicon
from probing.positions.seeding import carrier_rng
from probing.positions.select import select_positions
from probing.scoring.units import Work
from probing.settings import RunSettings
from probing.tokens.adapter import TokenizerAdapter
from probing.tokens.encoded import EncodedCarrier
from probing.tokens.unusable import UnusableCarrier

logger = logging.getLogger(__name__)

TOO_LONG = "over-long response"
UNPAIRED = "unpaired problem"


@dataclass(frozen=True)
class Prepared:
    """All that a run needs to know of its carriers; the same for the same files and settings.

    Attributes:
        carriers: of the run, in the order they were read.
        encoded: the same carriers as tokens.
        works: those with at least one chosen position; `Work.index` counts in `carriers`.
        cells: what the sample drew from each combination of strata.
        counts: records and carriers by what became of them.
        skipped: every record left out, except those the sample did not draw.
    """

    carriers: tuple[Carrier, ...]
    encoded: tuple[EncodedCarrier, ...]
    works: tuple[Work, ...]
    cells: tuple[Cell, ...]
    counts: dict[str, int]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class _Encoded:
    carriers: tuple[Carrier, ...]
    encoded: tuple[EncodedCarrier, ...]
    skipped: tuple[Skipped, ...]


def prepare(settings: RunSettings, *, tokenizer: TokenizerAdapter, lexicon: Lexicon) -> Prepared:
    """Read the carriers and choose where to look.

    Positions depend on the seed and the carrier's id alone, so other carriers do not move them.

    Raises:
        UnreadableInput: A file cannot be read as carriers.
        NoCarriersLeft: Every record was skipped.
    """
    read = read_carriers(settings.carriers, inputs=settings.inputs)
    usable = _encode(grade(read.carriers), tokenizer=tokenizer)
    lengths = [len(each.char_spans) for each in usable.encoded]
    sample = sample_carriers(
        usable.carriers,
        lengths=lengths,
        settings=settings.sampling,
        rng=np.random.default_rng(settings.sampling.seed),
        models=(settings.baseline.name, *(other.name for other in settings.others)),
    )
    limit = settings.sampling.max_response_tokens
    too_long = tuple(_skip(c, TOO_LONG, f"more than {limit} tokens") for c in sample.too_long)
    unpaired = tuple(_skip(c, UNPAIRED, "a generator has no response") for c in sample.unpaired)
    encoded = tuple(usable.encoded[index] for index in sample.indices)
    works = _choose(encoded, settings=settings, lexicon=lexicon)
    skipped = (*read.skipped, *usable.skipped, *too_long, *unpaired)
    for reason, count in Counter(record.reason for record in skipped).items():
        logger.warning("%d records skipped: %s", count, reason)
    counts = {
        "records_read": read.rows_read,
        "records_skipped": len(skipped),
        "carriers_available": len(usable.carriers) - len(too_long) - len(unpaired),
        "carriers_graded": sum(each.correct is not None for each in sample.carriers),
        "carriers_sampled": len(sample.carriers),
        "carriers_without_positions": len(encoded) - len(works),
        "positions": sum(len(work.selected.position) for work in works),
    }
    return Prepared(
        carriers=sample.carriers,
        encoded=encoded,
        works=works,
        cells=sample.cells,
        counts=counts,
        skipped=skipped,
    )


def _encode(carriers: Sequence[Carrier], *, tokenizer: TokenizerAdapter) -> _Encoded:
    """Carriers as tokens; those that cannot be are skipped with the reason."""
    kept: list[Carrier] = []
    encoded: list[EncodedCarrier] = []
    skipped: list[Skipped] = []
    for carrier in carriers:
        try:
            encoded.append(tokenizer.encode(carrier))
        except UnusableCarrier as fault:
            skipped.append(_skip(carrier, fault.reason, fault.detail))
        else:
            kept.append(carrier)
    if not kept:
        raise NoCarriersLeft(
            f"none of {len(carriers)} carriers can be scored; the first: {skipped[0].reason}: "
            f"{skipped[0].detail}; see `probing carriers` for what a carrier needs"
        )
    return _Encoded(tuple(kept), tuple(encoded), tuple(skipped))


def _skip(carrier: Carrier, reason: str, detail: str) -> Skipped:
    """A carrier is named by its id here: where it stood in a file is known to the reader only."""
    return Skipped(file=carrier.carrier_id, line=0, reason=reason, detail=detail)


def _choose(
    encoded: Sequence[EncodedCarrier], *, settings: RunSettings, lexicon: Lexicon
) -> tuple[Work, ...]:
    works = []
    for index, each in enumerate(encoded):
        selected = select_positions(
            each,
            selection=settings.selection,
            lexicon=lexicon,
            rng=carrier_rng(settings.selection.seed, each.carrier_id),
        )
        if len(selected.position):
            works.append(Work(index=index, encoded=each, selected=selected))
    return tuple(works)
