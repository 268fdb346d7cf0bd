"""A seeded sample of carriers, balanced over strata or in proportion to them."""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from probing.carriers.record import Carrier
from probing.carriers.strata import Strata, strata
from probing.errors import NoCarriersLeft
from probing.settings import Sampling, require

logger = logging.getLogger(__name__)

Group: TypeAlias = tuple[int, ...]
"""Carriers that are drawn together, by index: one alone, or all of a problem when paired."""

NAMED_CELLS = 20
"""Cells that a warning names; the rest are counted."""


@dataclass(frozen=True)
class Cell:
    """One combination of strata: how many groups it was to give, has, and gave.

    A group is a carrier, or under `Sampling.paired` a problem with all its carriers.
    """

    labels: tuple[str, ...]
    wanted: int
    available: int
    taken: int


@dataclass(frozen=True)
class SampleResult:
    """The kept carriers in their original order, and the table of cells.

    Attributes:
        carriers: with `sampling_probability` set to taken / available of their cell (times what it
            was before, where the carriers are a sample already).
        indices: where each stood among the given carriers.
        cells: one per combination of `by`, by label.
        too_long: carriers left out because their response is over the limit.
        unpaired: carriers left out, under `Sampling.paired`, because a generator has no response
            to their problem.
    """

    carriers: tuple[Carrier, ...]
    indices: tuple[int, ...]
    cells: tuple[Cell, ...]
    too_long: tuple[Carrier, ...]
    unpaired: tuple[Carrier, ...] = ()


def sample_carriers(
    carriers: Sequence[Carrier],
    *,
    lengths: Sequence[int],
    settings: Sampling,
    rng: np.random.Generator,
) -> SampleResult:
    """Draw `settings.carriers` carriers (0 keeps all) over the cells of `settings.by`.

    Balanced: evenly; a cell with fewer than its share gives all it has, and the others fill up.
    Proportional: by the cells' sizes, so that every carrier is as likely to be drawn as any other,
    as far as whole numbers allow. A cell that gives nothing is named in a warning. Paired: whole
    problems are drawn that every generator answered, as many as hold that number of carriers on
    average, at least one; a cell is then a combination of every generator's labels.

    Args:
        carriers: what there is.
        lengths: response tokens of each.
        settings: how many, over which strata.
        rng: the source of the draw.

    Raises:
        UsageFault: `by` names something that is no stratum of a carrier, or a count is negative.
        NoCarriersLeft: every response is over `max_response_tokens`; or, paired, no problem was
            answered by every generator.
    """
    assert len(carriers) == len(lengths)
    _check(settings)
    fitting = [i for i, length in enumerate(lengths) if length <= settings.max_response_tokens]
    if not fitting:
        raise NoCarriersLeft(
            f"every response is longer than max_response_tokens = {settings.max_response_tokens}; "
            "raise it under [sampling]"
        )
    groups = _problems(carriers, fitting) if settings.paired else [(i,) for i in fitting]
    grouped = sorted(i for group in groups for i in group)
    labels = strata(
        [carriers[i] for i in grouped],
        lengths=[lengths[i] for i in grouped],
        bins=settings.length_bins,
    )
    members: dict[tuple[str, ...], list[Group]] = {}
    by_index = dict(zip(grouped, labels, strict=True))
    for group in groups:
        key = tuple(_label([by_index[i] for i in group], name) for name in settings.by)
        members.setdefault(key, []).append(group)
    cells = _shares(members, groups=len(groups), carriers=len(grouped), settings=settings, rng=rng)
    chosen = _draw(members, cells, rng=rng)
    left_out = set(fitting) - set(grouped)
    if left_out:
        logger.warning("%d carriers left out: a generator lacks their problem", len(left_out))
    return SampleResult(
        carriers=tuple(
            dataclasses.replace(
                carriers[i], sampling_probability=carriers[i].sampling_probability * chosen[i]
            )
            for i in sorted(chosen)
        ),
        indices=tuple(sorted(chosen)),
        cells=cells,
        too_long=tuple(carriers[i] for i in sorted(set(range(len(carriers))) - set(fitting))),
        unpaired=tuple(carriers[i] for i in sorted(left_out)),
    )


def _check(settings: Sampling) -> None:
    known = tuple(field.name for field in dataclasses.fields(Strata))
    for name in settings.by:
        require(name in known, f"[sampling] by takes {', '.join(known)}", name)
    require(settings.carriers >= 0, "[sampling] carriers must be >= 0", settings.carriers)
    require(settings.length_bins >= 1, "[sampling] length_bins must be >= 1", settings.length_bins)


def _problems(carriers: Sequence[Carrier], fitting: Sequence[int]) -> list[Group]:
    """The carriers of each problem that every generator answered, problems in order of arrival."""
    generators = {carriers[i].generator for i in fitting}
    problems: dict[str, list[int]] = {}
    for i in fitting:
        problems.setdefault(carriers[i].problem_id, []).append(i)
    paired = [
        tuple(group)
        for group in problems.values()
        if {carriers[i].generator for i in group} == generators
    ]
    if not paired:
        raise NoCarriersLeft(
            "a paired sample takes problems that every generator answered, got none for "
            f"{', '.join(sorted(generators))}; set paired = false under [sampling]"
        )
    return paired


def _label(group: Sequence[Strata], name: str) -> str:
    """The stratum of a group: each generator's labels, generators by name."""
    by_generator: dict[str, set[str]] = {}
    for each in group:
        by_generator.setdefault(each.generator, set()).add(getattr(each, name))
    return " / ".join(" + ".join(sorted(by_generator[one])) for one in sorted(by_generator))


def _shares(
    members: dict[tuple[str, ...], list[Group]],
    *,
    groups: int,
    carriers: int,
    settings: Sampling,
    rng: np.random.Generator,
) -> tuple[Cell, ...]:
    """What every cell gives, cells by label."""
    keys = sorted(members)
    available = [len(members[key]) for key in keys]
    if not settings.carriers:
        return tuple(
            Cell(key, count, count, count) for key, count in zip(keys, available, strict=True)
        )
    total = max(settings.carriers * groups // carriers, 1)
    # What is left over goes to cells by lot: by label, it would be the first generator's every
    # time, and nothing but that with more cells than carriers.
    order = rng.permutation(len(keys)).tolist()
    shares = {"balanced": even_shares, "proportional": proportional_shares}[settings.allocation]
    taken = dict(zip(order, shares([available[i] for i in order], total=total), strict=True))
    cells = tuple(
        Cell(key, _wanted(i, available, total=total, settings=settings), available[i], taken[i])
        for i, key in enumerate(keys)
    )
    _warn_of_empty(cells)
    return cells


def _wanted(which: int, available: Sequence[int], *, total: int, settings: Sampling) -> int:
    """The exact share of a cell, rounded up."""
    if settings.allocation == "proportional":
        return -(-total * available[which] // sum(available))
    return -(-total // len(available))


def _warn_of_empty(cells: Sequence[Cell]) -> None:
    empty = [" × ".join(cell.labels) for cell in cells if cell.taken == 0]
    if empty:
        more = f" and {len(empty) - NAMED_CELLS} more" if len(empty) > NAMED_CELLS else ""
        logger.warning(
            "%d of %d cells of the sample give nothing: %s%s; "
            "ask for more carriers or fewer strata under [sampling]",
            len(empty),
            len(cells),
            "; ".join(empty[:NAMED_CELLS]),
            more,
        )


def _draw(
    members: dict[tuple[str, ...], list[Group]],
    cells: Sequence[Cell],
    *,
    rng: np.random.Generator,
) -> dict[int, float]:
    """The drawn carriers by index, each with the probability of its group."""
    chosen: dict[int, float] = {}
    for cell in cells:
        groups = members[cell.labels]
        for which in rng.choice(len(groups), size=cell.taken, replace=False).tolist():
            chosen |= dict.fromkeys(groups[which], cell.taken / cell.available)
    return chosen


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


def proportional_shares(available: Sequence[int], *, total: int) -> list[int]:
    """How many to take from each cell in proportion to its size, by largest remainders.

    Every cell gives its exact share rounded down; what is left goes one each to the cells with the
    largest remainders, among equal ones in the order given.

    Examples:
        >>> proportional_shares([1, 10, 10], total=9)
        [1, 4, 4]
        >>> proportional_shares([1, 50, 50], total=10)
        [0, 5, 5]
    """
    everything = sum(available)
    total = min(total, everything)
    # Whole numbers throughout, so that equal remainders are equal.
    exact = [divmod(total * count, max(everything, 1)) for count in available]
    taken = [whole for whole, _ in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: -exact[i][1])
    for i in by_remainder[: total - sum(taken)]:
        taken[i] += 1
    return taken
