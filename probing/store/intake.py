"""Labels from elsewhere: which of them may join those of a run."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import numpy as np

from probing.carriers.record import Skipped
from probing.errors import UnreadableInput
from probing.store.labels import Label, ReadLabels, read_lines
from probing.store.reader import Run

CLOCKS_APART = timedelta(minutes=10)
"""How far ahead of this machine's clock that of another may be."""

OTHER_RUN, OTHER_MODEL = "of another run", "of another model"
NO_POSITION, FUTURE = "no such position", "time to come"
"""Why a label is left out."""


def taken(data: bytes, *, run: Run, name: str) -> ReadLabels:
    """The labels in a file that are of this run; what cannot be taken is left out and said.

    A time to come is none: no newer label could ever replace it.

    Args:
        data: content of the file.
        run: what the labels must be of.
        name: of the file.

    Raises:
        UnreadableInput: there is no label of this run in it.
    """
    found = read_lines(data, name=name)
    known = known_names(run, (label.position for label in found.labels))
    latest = datetime.now(UTC) + CLOCKS_APART
    kept: dict[int, Label] = {}
    skipped = list(found.skipped)
    for number, label in zip(found.lines, found.labels, strict=True):
        if label.run != run.fingerprint:
            why = (OTHER_RUN, f"its fingerprint is {label.run[:12]}")
        elif label.other not in run.model_names[1:]:
            why = (OTHER_MODEL, label.other)
        elif label.position not in known:
            why = (NO_POSITION, label.position)
        elif datetime.fromisoformat(label.time) > latest:
            why = (FUTURE, label.time)
        else:
            kept[number] = label
            continue
        skipped.append(Skipped(name, number, *why))
    skipped.sort(key=lambda item: item.line)
    if not kept:
        raise _nothing(name, run, skipped)
    return ReadLabels(tuple(kept.values()), tuple(kept), tuple(skipped))


def _nothing(name: str, run: Run, skipped: list[Skipped]) -> UnreadableInput:
    foreign = sum(item.reason == OTHER_RUN for item in skipped)
    got = f"{foreign} of another run" if foreign else f"{len(skipped)} that are none"
    error = UnreadableInput(
        f"{name} must hold labels of this run, whose fingerprint is {run.fingerprint[:12]}…, got "
        f"{got}; give a file that was downloaded or exported from this run"
    )
    error.skipped = tuple(skipped)
    return error


def known_names(run: Run, names: Iterable[str]) -> frozenset[str]:
    """Of these names, those of positions of the run."""
    carriers = {carrier.carrier_id: place for place, carrier in enumerate(run.carriers())}
    positions = run.positions()
    width = int(positions.position.max(initial=0)) + 1
    wanted: dict[int, list[str]] = {}
    for name in set(names):
        carrier, _, index = name.rpartition(":")
        if carrier in carriers and len(index) <= len(str(width)) and int(index) < width:
            wanted.setdefault(carriers[carrier] * width + int(index), []).append(name)
    own = positions.carrier.astype(np.int64) * width + positions.position
    here = np.intersect1d(own, np.array([*wanted], dtype=np.int64))
    # `01` names no position: a position has one name.
    return frozenset(
        name for code in here.tolist() for name in wanted[code] if _plain(name, code % width)
    )


def _plain(name: str, index: int) -> bool:
    return name.endswith(f":{index}")
