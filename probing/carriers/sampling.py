"""A seeded sample of carriers, balanced over strata."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from probing.carriers.record import Carrier
from probing.carriers.strata import Strata, strata
from probing.errors import NoCarriersLeft
from probing.settings import Sampling, require


@dataclass(frozen=True)
class Cell:
    """One combination of strata: how many carriers it was to give, has, and gave."""

    labels: tuple[str, ...]
    wanted: int
    available: int
    taken: int


@dataclass(frozen=True)
class SampleResult:
    """The kept carriers in their original order, and the table of cells.

    Attributes:
        carriers: with `sampling_probability` set to taken / available of their cell.
        indices: where each stood among the given carriers.
        cells: one per combination of `by`, by label.
        too_long: carriers left out because their response is over the limit.
    """

    carriers: tuple[Carrier, ...]
    indices: tuple[int, ...]
    cells: tuple[Cell, ...]
    too_long: tuple[Carrier, ...]


def sample_carriers(
    carriers: Sequence[Carrier],
    *,
    lengths: Sequence[int],
    settings: Sampling,
    rng: np.random.Generator,
) -> SampleResult:
    """Draw `settings.carriers` carriers (0 keeps all), evenly over the cells of `settings.by`.

    A cell with fewer than its share gives all it has, and the others fill up.

    Args:
        carriers: what there is.
        lengths: response tokens of each.
        settings: how many, over which strata.
        rng: the source of the draw.

    Raises:
        UsageFault: `by` names something that is no stratum of a carrier.
        NoCarriersLeft: every response is over `max_response_tokens`.
    """
    known = tuple(field.name for field in dataclasses.fields(Strata))
    for name in settings.by:
        require(name in known, f"[sampling] by takes {', '.join(known)}", name)
    fitting = [i for i, length in enumerate(lengths) if length <= settings.max_response_tokens]
    too_long = tuple(c for i, c in enumerate(carriers) if lengths[i] > settings.max_response_tokens)
    if not fitting:
        raise NoCarriersLeft(
            f"every response is longer than max_response_tokens = {settings.max_response_tokens}; "
            "raise it under [sampling]"
        )
    labels = strata(
        [carriers[i] for i in fitting],
        lengths=[lengths[i] for i in fitting],
        bins=settings.length_bins,
    )
    members: dict[tuple[str, ...], list[int]] = {}
    for index, label in zip(fitting, labels, strict=True):
        key = tuple(str(getattr(label, name)) for name in settings.by)
        members.setdefault(key, []).append(index)
    keys = sorted(members)
    available = [len(members[key]) for key in keys]
    wanted = settings.carriers or len(fitting)
    taken = even_shares(available, total=wanted)
    share = -(-wanted // len(keys)) if settings.carriers else 0
    cells: list[Cell] = []
    chosen: dict[int, float] = {}
    for key, count in zip(keys, taken, strict=True):
        drawn = rng.choice(members[key], size=count, replace=False).tolist()
        chosen |= dict.fromkeys(drawn, count / len(members[key]))
        cells.append(Cell(key, share or len(members[key]), len(members[key]), count))
    indices = tuple(sorted(chosen))
    return SampleResult(
        carriers=tuple(
            dataclasses.replace(
                carriers[i], sampling_probability=carriers[i].sampling_probability * chosen[i]
            )
            for i in indices
        ),
        indices=indices,
        cells=tuple(cells),
        too_long=too_long,
    )


def even_shares(available: Sequence[int], *, total: int) -> list[int]:
    """How many to take from each cell so that the smallest takes are as large as possible.

    Examples:
        >>> even_shares([1, 10, 10], total=9)
        [1, 4, 4]
    """
    taken = [0] * len(available)
    left = min(total, sum(available))
    while left:
        open_cells = [i for i, count in enumerate(available) if taken[i] < count]
        each = max(left // len(open_cells), 1)
        for i in open_cells:
            more = min(each, available[i] - taken[i], left)
            taken[i] += more
            left -= more
    return taken
