"""A seeded sample of carriers, balanced over strata or in proportion to them."""

import dataclasses
import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from probing.carriers.record import Carrier
from probing.carriers.strata import Strata, right_model, strata
from probing.errors import NoCarriersLeft
from probing.settings import Sampling, require
from probing.vocabulary import UNKNOWN

logger = logging.getLogger(__name__)

Group: TypeAlias = tuple[int, ...]
"""Carriers that are drawn together, by index: one alone, or all of a problem when paired."""

Members: TypeAlias = dict[tuple[str, ...], list[Group]]
"""The groups of each cell that has one."""

NAMED_CELLS = 20
"""Cells that a warning names; the rest are counted."""
MOST_CELLS = 1000
"""Where strata have more combinations, those that no carrier has are counted, not listed."""
FINISH_REASON, RIGHT_MODEL = "finish_reason", "right_model"
STRATA = (*(field.name for field in dataclasses.fields(Strata)), FINISH_REASON, RIGHT_MODEL)
"""What a sample can be drawn over."""


@dataclass(frozen=True)
class Cell:
    """One combination of strata: how many groups it was to give, has, and gave.

    A group is a carrier, or under `Sampling.paired` a problem with all its carriers.
    """

    labels: tuple[str, ...]
    wanted: int
    available: int
    taken: int


def cell_rows(cells: Sequence[Cell], *, by: Sequence[str]) -> list[dict[str, Any]]:
    """The table of a sample, a row a cell: its label in each stratum, wanted, available, taken."""
    numbers = ("wanted", "available", "taken")
    return [
        {
            **dict(zip(by, cell.labels, strict=True)),
            **{name: getattr(cell, name) for name in numbers},
        }
        for cell in cells
    ]


@dataclass(frozen=True)
class SampleResult:
    """The kept carriers in their original order, and the table of cells.

    Attributes:
        carriers: with `sampling_probability` set to taken / available of their cell (times what it
            was before, where the carriers are a sample already).
        indices: where each stood among the given carriers.
        cells: one per combination of the labels that `by` has, by label; also of those that no
            group has, up to `MOST_CELLS` of all.
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
    models: Sequence[str] = (),
) -> SampleResult:
    """Draw `settings.carriers` carriers (0 keeps all) over the cells of `settings.by`.

    Balanced: evenly; a cell with fewer than its share gives all it has, and the others fill up.
    Proportional: by the cells' sizes, so that every carrier is as likely to be drawn as any other,
    as far as whole numbers allow. A cell that is empty or gives nothing is named in a warning.
    Paired: whole problems are drawn that every generator answered, as many as hold that number of
    carriers on average, at least one; the label of a problem is then every generator's.

    Args:
        carriers: what there is.
        lengths: response tokens of each.
        settings: how many, over which strata.
        rng: the source of the draw.
        models: names of the run's, baseline first: `right_model` is of the first two.

    Raises:
        UsageFault: `by` names something that is no stratum of a carrier, or `right_model` without
            two models, or a count is negative.
        NoCarriersLeft: every response is over `max_response_tokens`; or, paired, no problem was
            answered by every generator.
    """
    assert len(carriers) == len(lengths)
    _check(settings, models)
    fitting = [i for i, length in enumerate(lengths) if length <= settings.max_response_tokens]
    if not fitting:
        raise NoCarriersLeft(
            f"every response is longer than max_response_tokens = {settings.max_response_tokens}; "
            "raise it under [sampling]"
        )
    groups = _problems(carriers, fitting) if settings.paired else [(i,) for i in fitting]
    grouped = sorted(i for group in groups for i in group)
    labels = _labels(
        [carriers[i] for i in grouped],
        lengths=[lengths[i] for i in grouped],
        settings=settings,
        models=models,
    )
    members: Members = {}
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


def _check(settings: Sampling, models: Sequence[str]) -> None:
    for name in settings.by:
        require(name in STRATA, f"[sampling] by takes {', '.join(STRATA)}", name)
    compared = RIGHT_MODEL not in settings.by or len(models) >= 2
    require(compared, f"{RIGHT_MODEL} under [sampling] by needs two models", list(models))
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


def _labels(
    carriers: Sequence[Carrier],
    *,
    lengths: Sequence[int],
    settings: Sampling,
    models: Sequence[str],
) -> list[dict[str, str]]:
    """The label of every carrier in each of `STRATA`, those aside that are not asked for."""
    found: list[dict[str, str]] = [
        {**vars(each), FINISH_REASON: carrier.finish_reason or UNKNOWN}
        for carrier, each in zip(
            carriers, strata(carriers, lengths=lengths, bins=settings.length_bins), strict=True
        )
    ]
    if RIGHT_MODEL in settings.by:
        right = right_model(carriers, baseline=models[0], other=models[1])
        for carrier, labels in zip(carriers, found, strict=True):
            labels[RIGHT_MODEL] = right[carrier.problem_id]
    return found


def _label(group: Sequence[Mapping[str, str]], name: str) -> str:
    """The stratum of a group: each generator's labels, generators by name."""
    by_generator: dict[str, set[str]] = {}
    for each in group:
        by_generator.setdefault(each["generator"], set()).add(each[name])
    return " / ".join(" + ".join(sorted(by_generator[one])) for one in sorted(by_generator))


def _combinations(members: Members) -> tuple[list[tuple[str, ...]], int]:
    """Every combination of labels that are there, sorted, and how many more have no group.

    Beyond `MOST_CELLS` only those that have a group are listed.
    """
    seen = [sorted(set(labels)) for labels in zip(*members, strict=True)]
    count = math.prod(map(len, seen))
    if count > MOST_CELLS:
        return sorted(members), count - len(members)
    return list(itertools.product(*seen)), 0


def _shares(
    members: Members,
    *,
    groups: int,
    carriers: int,
    settings: Sampling,
    rng: np.random.Generator,
) -> tuple[Cell, ...]:
    """What every cell gives, cells by label."""
    keys, unlisted = _combinations(members)
    available = {key: len(members.get(key, ())) for key in keys}
    if not settings.carriers:
        return tuple(Cell(key, count, count, count) for key, count in available.items())
    total = max(settings.carriers * groups // carriers, 1)
    # What is left over goes to cells by lot: by label, it would be the first generator's every
    # time, and nothing but that with more cells than carriers.
    there = sorted(members)
    order = [there[i] for i in rng.permutation(len(there)).tolist()]
    shares = {"balanced": even_shares, "proportional": proportional_shares}[settings.allocation]
    taken = dict(zip(order, shares([available[key] for key in order], total=total), strict=True))
    # The exact shares, rounded up.
    balanced, everything = -(-total // (len(keys) + unlisted)), sum(available.values())
    wanted = {key: -(-total * count // everything) for key, count in available.items()}
    if settings.allocation == "balanced":
        wanted = dict.fromkeys(keys, balanced)
    cells = tuple(
        Cell(key, wanted[key], count, taken.get(key, 0)) for key, count in available.items()
    )
    _warn_of_empty(cells, unlisted=unlisted)
    return cells


def _warn_of_empty(cells: Sequence[Cell], *, unlisted: int) -> None:
    every = len(cells) + unlisted
    if unlisted:
        logger.warning(
            "%d of %d combinations of the strata are empty, too many to list; "
            "name fewer strata under [sampling] by",
            unlisted,
            every,
        )
    empty = [cell for cell in cells if not cell.available]
    if empty:
        logger.warning(
            "%d of %d cells of the sample are empty: %s; nothing that was read has these strata "
            "together",
            len(empty),
            every,
            _named(empty),
        )
    unused = [cell for cell in cells if cell.available and not cell.taken]
    if unused:
        logger.warning(
            "%d of %d cells of the sample give nothing: %s; "
            "ask for more carriers or fewer strata under [sampling]",
            len(unused),
            every,
            _named(unused),
        )


def _named(cells: Sequence[Cell]) -> str:
    more = f" and {len(cells) - NAMED_CELLS} more" if len(cells) > NAMED_CELLS else ""
    return "; ".join(" × ".join(cell.labels) for cell in cells[:NAMED_CELLS]) + more


def _draw(
    members: Members,
    cells: Sequence[Cell],
    *,
    rng: np.random.Generator,
) -> dict[int, float]:
    """The drawn carriers by index, each with the probability of its group."""
    chosen: dict[int, float] = {}
    for cell in cells:
        groups = members.get(cell.labels, [])
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
