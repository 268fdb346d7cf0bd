"""From carrier files to work: read, grade, encode, sample, choose positions."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from probing.carriers.grading import grade
from probing.carriers.reading import read_carriers
from probing.carriers.record import Carrier, ReadResult, Skipped
from probing.carriers.sampling import Cell, sample_carriers
from probing.errors import NoCarriersLeft, ProbingError
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
RESPELT = (
    "%d carriers have ids that spell more or less than their response: the ids are scored, and the "
    "grade is of the response"
)


@dataclass(frozen=True)
class Prepared:
    """All that a run needs to know of its carriers; the same for the same files and settings.

    Attributes:
        carriers: of the run, in the order they were read.
        encoded: the same carriers as tokens.
        works: those with at least one chosen position; `Work.index` counts in `carriers`.
        cells: what the sample drew from each combination of strata.
        counts: records and carriers by what became of them; files too, where some were left out.
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


def prepare(settings: RunSettings, *, tokenizer: TokenizerAdapter, lexicon: Lexicon) -> Prepared:
    """Read the carriers and choose where to look.

    Positions depend on the seed and the carrier's id alone, so other carriers do not move them.

    Raises:
        UnreadableInput: A file cannot be read as carriers.
        NoCarriersLeft: Every record was skipped.
            Each has in `skipped` what was left out until then.
    """
    read = read_carriers(settings.carriers, inputs=settings.inputs)
    for note in read.notes:
        logger.warning("%s", note)
    skipped = list(read.skipped)
    try:
        return _prepared(read, skipped, settings=settings, tokenizer=tokenizer, lexicon=lexicon)
    except ProbingError as fault:
        fault.skipped = tuple(skipped)
        raise


def _prepared(
    read: ReadResult,
    skipped: list[Skipped],
    *,
    settings: RunSettings,
    tokenizer: TokenizerAdapter,
    lexicon: Lexicon,
) -> Prepared:
    """From what was read; what is left out besides is added to `skipped`."""
    usable = _encode(grade(read.carriers, settings.grading), read, skipped, tokenizer=tokenizer)
    lengths = [len(each.char_spans) for each in usable.encoded]
    sample = sample_carriers(
        usable.carriers,
        lengths=lengths,
        settings=settings.sampling,
        rng=np.random.default_rng(settings.sampling.seed),
        models=(settings.baseline.name, *(other.name for other in settings.others)),
    )
    limit = settings.sampling.max_response_tokens
    over, alone = f"more than {limit} tokens", "a generator has no response"
    skipped += [read.skip(each.carrier_id, TOO_LONG, over) for each in sample.too_long]
    skipped += [read.skip(each.carrier_id, UNPAIRED, alone) for each in sample.unpaired]
    encoded = tuple(usable.encoded[index] for index in sample.indices)
    works = _choose(encoded, settings=settings, lexicon=lexicon)
    for reason, count in Counter(record.reason for record in skipped).items():
        logger.warning("%d skipped: %s", count, reason)
    respelt = sum(each.respelt for each in encoded)
    if respelt:
        logger.warning(RESPELT, respelt)
    files_left_out = read.files_left_out
    left = len(sample.too_long) + len(sample.unpaired)
    counts = {
        "records_read": read.rows_read,
        "records_skipped": len(skipped) - sum(each.left_out > 0 for each in read.files),
        **({"files_left_out": files_left_out} if files_left_out else {}),
        "carriers_available": len(usable.carriers) - left,
        "carriers_graded": sum(each.correct is not None for each in sample.carriers),
        "carriers_sampled": len(sample.carriers),
        "carriers_spelt_otherwise": respelt,
        "carriers_without_positions": len(encoded) - len(works),
        "positions": sum(len(work.selected.position) for work in works),
    }
    return Prepared(
        carriers=sample.carriers,
        encoded=encoded,
        works=works,
        cells=sample.cells,
        counts=counts,
        skipped=tuple(skipped),
    )


def _encode(
    carriers: Sequence[Carrier],
    read: ReadResult,
    skipped: list[Skipped],
    *,
    tokenizer: TokenizerAdapter,
) -> _Encoded:
    """Carriers as tokens; those that cannot be are added to `skipped` with the reason."""
    kept: list[Carrier] = []
    encoded: list[EncodedCarrier] = []
    before = len(skipped)
    for carrier in carriers:
        try:
            encoded.append(tokenizer.encode(carrier))
        except UnusableCarrier as fault:
            skipped.append(read.skip(carrier.carrier_id, fault.reason, fault.detail))
        else:
            kept.append(carrier)
    if not kept:
        raise NoCarriersLeft(
            f"none of {len(carriers)} carriers can be scored; the first: {skipped[before]}; "
            "see `probing carriers` for what a carrier needs"
        )
    return _Encoded(tuple(kept), tuple(encoded))


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
