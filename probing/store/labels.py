"""Labels by people: one JSON object a line beside a run, never in it."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from probing.carriers.record import Skipped
from probing.errors import UnwritablePath, UsageFault
from probing.settings import Strict, require
from probing.store.schema import LABELS_SUFFIX
from probing.vocabulary import Event, Kind

LONGEST_NOTE, LONGEST_NAME = 300, 80
"""Characters of a note, and of a labeller's name."""

LONGEST_LINE_BYTES = 1 << 14
LARGEST_FILE_BYTES = 64 << 20
"""What the file beside a run may grow to: a hundred thousand labels and more."""

HEURISTIC, PEOPLE = "heuristic", "everybody"
"""What tables call the kinds by thresholds, and all labellers together: no person's name."""

TORN, NO_LABEL = "torn line", "not a label"
"""Why a line is left out."""


class Offered(StrEnum):
    """How a position came before the eyes of the person who labelled it."""

    RANKED = "ranked"
    RANDOM = "random"
    LINK = "link"


@dataclass(frozen=True, kw_only=True)
class Offer(Strict):
    """In which order a position was offered: what a figure over labels can speak for.

    Attributes:
        how: ranked by a quantity, drawn at random, or looked at by its link.
        by: the order and the quantity of a ranking, in words.
        seed: of a random order.
        among: the selector of the positions that were offered; see `Weighting`.
        filtered: whether other filters left positions out.
        blind: whether what the heuristic says was hidden.
    """

    how: Offered
    by: str = ""
    seed: int | None = None
    among: str = ""
    filtered: bool = False
    blind: bool = False


@dataclass(frozen=True, kw_only=True)
class Label(Strict):
    """What one person says of one position. What the heuristic said is not kept: it depends.

    Attributes:
        run: fingerprint.
        other: the model compared with the baseline: an event is one of a pair.
        position: its permanent name, response and token.
        who: the person.
        time: ISO 8601, UTC.
        order: how the position was offered.
        kind, event: None says nothing; without either the label is withdrawn.
        note: a sentence, or nothing.
    """

    run: str
    other: str
    position: str
    who: str
    time: str
    order: Offer
    kind: Kind | None = None
    event: Event | None = None
    note: str = ""

    def __post_init__(self) -> None:
        named = self.who.strip() == self.who and 0 < len(self.who) <= LONGEST_NAME
        require(named, f"who must be a name of 1 to {LONGEST_NAME} characters", self.who)
        taken = self.who.casefold() in {HEURISTIC, PEOPLE}
        require(not taken, f"who must be another name than {HEURISTIC} and {PEOPLE}", self.who)
        require(
            len(self.note) <= LONGEST_NOTE,
            f"note must have at most {LONGEST_NOTE} characters",
            len(self.note),
        )
        carrier, _, index = self.position.rpartition(":")
        require(
            bool(carrier) and index.isascii() and index.isdigit(),
            "position must be RESPONSE:TOKEN",
            self.position,
        )
        require(_is_utc(self.time), "time must be ISO 8601 in UTC", self.time)

    @property
    def withdrawn(self) -> bool:
        """Whether it says nothing any more."""
        return self.kind is None and self.event is None

    @property
    def of(self) -> tuple[str, str, str, str]:
        """What only the newest label of counts: run, pair, position and person."""
        return self.run, self.other, self.position, self.who


_LABEL = TypeAdapter(Label)


def _is_utc(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).utcoffset() == timedelta(0)
    except ValueError:
        return False


def now() -> str:
    """The time of a label that is given now."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class ReadLabels(NamedTuple):
    """Every whole line, oldest first, withdrawn and replaced labels too; and what is none.

    Attributes:
        labels: in the order of the file.
        lines: where each of them stands, from 1.
        skipped: what was left out.
    """

    labels: tuple[Label, ...] = ()
    lines: tuple[int, ...] = ()
    skipped: tuple[Skipped, ...] = ()


def line_of(label: Label) -> bytes:
    """A label as its line, in ASCII: no text in it can end the line."""
    return json.dumps(_LABEL.dump_python(label, mode="json")).encode() + b"\n"


def lines_of(labels: Iterable[Label]) -> bytes:
    """Labels as a file holds them."""
    return b"".join(line_of(label) for label in labels)


def read_lines(data: bytes, *, name: str) -> ReadLabels:
    """Labels out of the content of a file; what is no label is left out and said.

    Args:
        data: of the file. A last line without its end counts if it is whole.
        name: of the file, for those that are left out.
    """
    labels: dict[int, Label] = {}
    skipped: list[Skipped] = []
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            labels[number] = _label(line)
        except (ValidationError, UsageFault) as error:
            reason = TORN if number == len(lines) else NO_LABEL
            skipped.append(Skipped(name, number, reason, _said(error)))
    return ReadLabels(tuple(labels.values()), tuple(labels), tuple(skipped))


def _label(line: bytes) -> Label:
    rule = f"a line must have at most {LONGEST_LINE_BYTES} bytes"
    require(len(line) <= LONGEST_LINE_BYTES, rule, len(line))
    return _LABEL.validate_json(line)


def _said(error: ValidationError | UsageFault) -> str:
    """What is wrong with a line, without the line."""
    if isinstance(error, UsageFault):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])


def current(labels: Iterable[Label]) -> tuple[Label, ...]:
    """The newest label of every position, pair and person, unless it was withdrawn.

    Of two labels of one time the later line counts. The order of files that were joined does not.
    """
    newest: dict[tuple[str, str, str, str], Label] = {}
    for label in labels:
        known = newest.get(label.of)
        if known is None or _time(label) >= _time(known):
            newest[label.of] = label
    return tuple(label for label in newest.values() if not label.withdrawn)


def _time(label: Label) -> datetime:
    return datetime.fromisoformat(label.time)


class LabelFile:
    """The labels beside a run: lines are only ever added, whole, by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def beside(cls, location: str) -> "LabelFile | None":
        """That of the run at this path; None for a URL, beside which nothing can be kept."""
        if "://" in location:
            return None
        run = Path(location)
        return cls(run.with_name(run.name + LABELS_SUFFIX))

    @property
    def writable(self) -> bool:
        """Whether labels can be kept here."""
        if self.path.exists():
            return self.path.is_file() and os.access(self.path, os.R_OK | os.W_OK)
        return os.access(self.path.parent, os.W_OK | os.X_OK)

    @property
    def stamp(self) -> tuple[int, int]:
        """Changes when a label is added."""
        try:
            found = self.path.stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_size

    def read(self) -> ReadLabels:
        """All that is there; nothing where there is no file, or none that may be read."""
        if not self.path.is_file():
            return ReadLabels()
        try:
            with self.path.open("rb") as file, _locked(file.fileno(), fcntl.LOCK_SH):
                data = file.read(LARGEST_FILE_BYTES)
        except OSError as error:
            fault = Skipped(str(self.path), 0, "unreadable", error.strerror or str(error))
            return ReadLabels(skipped=(fault,))
        return read_lines(data, name=self.path.name)

    def append(self, labels: Iterable[Label]) -> int:
        """Add a line for each label that has none yet; all or, where the disk refuses, none.

        Returns:
            How many were new.

        Raises:
            UnwritablePath: the file cannot be written, or is full.
        """
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise _refused(self.path, error.strerror or str(error)) from error
        try:
            with _locked(handle, fcntl.LOCK_EX):
                return _add(handle, labels, path=self.path)
        except OSError as error:
            raise _refused(self.path, error.strerror or str(error)) from error
        finally:
            os.close(handle)


def _add(handle: int, labels: Iterable[Label], *, path: Path) -> int:
    size = os.fstat(handle).st_size
    if size > LARGEST_FILE_BYTES:
        raise _refused(path, f"it has {size:,} bytes, at most {LARGEST_FILE_BYTES:,} may be")
    present = _content(handle, size)
    known = {line + b"\n" for line in present.split(b"\n")}
    lines = list(dict.fromkeys(map(line_of, labels)))
    new = [line for line in lines if line not in known]
    if not new:
        return 0
    # A process that died while it wrote left half a line: these begin their own.
    start = b"" if not present or present.endswith(b"\n") else b"\n"
    try:
        _write(handle, start + b"".join(new))
        os.fsync(handle)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(handle, size)
        raise
    return len(new)


def _content(handle: int, size: int) -> bytes:
    parts, at = [], 0
    while at < size and (part := os.pread(handle, size - at, at)):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _write(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


@contextlib.contextmanager
def _locked(handle: int, mode: int) -> Iterator[None]:
    """Hold the operating system's lock on a file, which ends with its process."""
    fcntl.flock(handle, mode)
    try:
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)


def _refused(path: Path, why: str) -> UnwritablePath:
    return UnwritablePath(
        f"{path} cannot be written: {why}; labels are kept beside their run, in a writable folder; "
        "copy the run to one, or download the labels and keep them elsewhere"
    )
