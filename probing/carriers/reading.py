"""Logs of any format in: kept records, and every skipped one with its place and reason."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeAlias

from probing.carriers.fields import Unusable, carrier_from_fields
from probing.carriers.readers.batch import batch_format, is_batch_input
from probing.carriers.readers.carrier import CARRIER
from probing.carriers.readers.chat import CHAT
from probing.carriers.readers.files import (
    BATCH_INPUT,
    NEXT,
    Told,
    check_format,
    empty,
    tell,
)
from probing.carriers.readers.formats import (
    Convert,
    Made,
    RecordFormat,
    first_that_fits,
    set_aside,
    with_columns,
)
from probing.carriers.readers.identity import Generators, completed
from probing.carriers.readers.inspect_logs import INSPECT
from probing.carriers.readers.lm_eval import LM_EVAL, REPEATED
from probing.carriers.readers.ml_ssd import ML_SSD
from probing.carriers.readers.prompts import Prompts
from probing.carriers.readers.rows import BadRow, Row
from probing.carriers.readers.scales import Scales
from probing.carriers.readers.seen import Seen, Stood
from probing.carriers.readers.sources import Source, listed, sources
from probing.carriers.record import Carrier, FileCounts, ReadResult, Skipped
from probing.errors import (
    MissingPackage,
    NoCarriersLeft,
    ProbingError,
    RecordFault,
    UnreadableInput,
)
from probing.run_file import inputs_of
from probing.settings import Inputs, Paths, paths_of

DEFAULT_INPUTS = Inputs()
OTHER_FILE = "no log of responses"
NO_PACKAGE = "missing package"
LEFT_OUT = (UnreadableInput, MissingPackage)
"""What ends the reading of a file that was named, and leaves out one that was found."""
OTHER_FORMAT = "another format"
PASSED_OVER = "passed over"
NO_FAULTS = frozenset({PASSED_OVER, REPEATED})
"""Reasons that stand in every sound folder or log, and are no fault under `strict`."""

Outcome: TypeAlias = Carrier | Skipped


def read_carriers(
    paths: Paths, *, inputs: Inputs | Mapping[str, Any] = DEFAULT_INPUTS, strict: bool = False
) -> ReadResult:
    """Read every file, in order; formats are told by content.

    A record at fault is skipped and listed; ids must be unique over all files.

    Args:
        paths: a file, folder, glob or fsspec URL, or several; of a folder every log below it is
            read.
        inputs: how logs are read: `Inputs`, or a dict as the table `[inputs]` of a run file.
        strict: raise at the first skipped record instead.

    Raises:
        UnreadableInput: a file that is absent, empty, or of no known format; a folder without logs.
        UsageFault: no path, or what is none; settings of a wrong type, or an unknown format.
        RecordFault: `strict`, and a record was at fault.
        NoCarriersLeft: every record was skipped.
        MissingPackage: a format needs a package that is not installed.
            Of files found in folders or by globs the first and the last are skips instead. Each
            has in `skipped` what was left out until then.
    """
    stream = CarrierStream(paths, inputs=inputs, strict=strict)
    kept: list[Carrier] = []
    skipped: list[Skipped] = []
    places: dict[str, tuple[str, int]] = {}
    try:
        for outcome in stream:
            if isinstance(outcome, Carrier):
                kept.append(outcome)
                places[outcome.carrier_id] = stream.place
            else:
                skipped.append(outcome)
    except ProbingError as fault:
        fault.skipped = tuple(skipped)
        raise
    return ReadResult(
        tuple(kept), tuple(skipped), stream.rows_read, stream.files, stream.notes, places
    )


def id_place(source: Source) -> str:
    """What ids call a file that says none: the same however its path is written.

    Relative to the current folder where it lies below that, else absolute; a URL as it is. Links
    are not followed: a file moved behind one keeps its ids.
    """
    if source.is_url:
        return source.place
    here, path = os.getcwd(), os.path.abspath(source.place)
    return os.path.relpath(path, here) if os.path.commonpath([here, path]) == here else path


class CarrierStream:
    """Every record of some files, one after the other, as a carrier or as what is wrong with it.

    Iterate once; `strict` raises once the record at fault is given out. Memory is bounded by the
    longest record and by 48 bytes a carrier for its id.

    Attributes:
        rows_read: records so far, kept or skipped.
        place: file and line of the carrier that was given out last.
    """

    def __init__(
        self,
        paths: Paths,
        *,
        inputs: Inputs | Mapping[str, Any] = DEFAULT_INPUTS,
        strict: bool = False,
    ) -> None:
        self._paths = paths_of(paths, named="paths")
        self._inputs, self._strict = inputs_of(inputs), strict
        self.place = ("", 0)
        self._seen = Seen()
        self._id_places: dict[str, str] = {}
        self._id_file = ""
        self._counts: list[Counter[str]] = []
        self._told: list[tuple[str, str]] = []
        self._notes: list[str] = []
        self._generators = Generators(self._inputs)

    @property
    def rows_read(self) -> int:
        """Records so far, kept or skipped."""
        return sum(each["records"] for each in self._counts)

    @property
    def files(self) -> tuple[FileCounts, ...]:
        """What every file gave so far."""
        names = ("records", "responses", "kept", "skipped", "prompts", "left_out")
        return tuple(
            FileCounts(file, form, *(each[name] for name in names))
            for (file, form), each in zip(self._told, self._counts, strict=True)
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the records that were kept; whole once all are read."""
        return tuple(self._notes)

    def __iter__(self) -> Iterator[Outcome]:
        """See above.

        Raises:
            UnreadableInput, RecordFault, NoCarriersLeft, MissingPackage: see `read_carriers`.
        """
        first_fault: Skipped | None = None
        kept = False
        with Prompts() as prompts:
            for outcome in self._outcomes(prompts):
                kept = kept or isinstance(outcome, Carrier)
                if isinstance(outcome, Skipped) and outcome.reason not in NO_FAULTS:
                    first_fault = first_fault or outcome
                yield outcome
                if self._strict and first_fault:
                    raise RecordFault(
                        f"{first_fault}; mend the record, or leave out --strict to skip it"
                    )
        self._notes += self._generators.notes()
        if not kept:
            first = f"; the first: {first_fault}" if first_fault else ""
            raise NoCarriersLeft(
                f"no carrier left of {self.rows_read} records in {', '.join(self._paths)}{first}; "
                f"{NEXT}"
            )

    def _outcomes(self, prompts: Prompts) -> Iterator[Outcome]:
        formats = (CARRIER, LM_EVAL, batch_format(prompts), ML_SSD, CHAT)
        check_format(formats, self._inputs)
        told: list[Told] = []
        for given in self._paths:
            found = sources(given)
            if found.passed_over:
                yield self._passed_over(given, found.passed_over)
            for source in found.sources:
                try:
                    told.append(tell(source, formats=formats, inputs=self._inputs))
                except LEFT_OUT as error:
                    yield self._skipped_file(source, error)
        # What asks comes first, wherever it was named.
        for each in sorted(told, key=lambda each: not each.asks):
            try:
                if each.asks:
                    yield from self._prompts(each, prompts)
                else:
                    yield from self._carriers(each, formats)
            except LEFT_OUT as error:
                yield self._skipped_file(each.source, error)

    def _passed_over(self, given: str, names: Sequence[str]) -> Skipped:
        self._leave_out(given, len(names))
        detail = f"{len(names):,} files that are no logs by their names: {listed(names)}"
        return Skipped(given, 0, PASSED_OVER, detail)

    def _skipped_file(self, source: Source, error: ProbingError) -> Skipped:
        """A file found in a folder, where others lie too.

        Raises:
            UnreadableInput, MissingPackage: it was named itself.
        """
        if source.given:
            raise error
        self._leave_out(source.place, 1)
        reason = NO_PACKAGE if isinstance(error, MissingPackage) else OTHER_FILE
        return Skipped(source.place, 0, reason, str(error))

    def _begin(self, place: str, form: str) -> None:
        self._told.append((place, form))
        self._counts.append(Counter())

    def _leave_out(self, place: str, files: int) -> None:
        self._begin(place, "")
        self._count("skipped")
        self._counts[-1]["left_out"] = files

    def _count(self, what: str) -> None:
        self._counts[-1][what] += 1

    def _skip(self, source: Source, line: int, reason: str, detail: str) -> Skipped:
        self._count("responses")
        self._count("skipped")
        return Skipped(source.place, line, reason, detail)

    def _prompts(self, told: Told, prompts: Prompts) -> Iterator[Outcome]:
        self._begin(told.source.place, BATCH_INPUT)
        with closing(told.read()) as rows:
            for row in rows:
                self._count("records")
                if isinstance(row, BadRow):
                    yield self._skip(told.source, row.line, row.reason, row.detail)
                elif not is_batch_input(row.fields):
                    detail = "a request of a batch holds custom_id and body"
                    yield self._skip(told.source, row.line, OTHER_FORMAT, detail)
                elif prompts.add(custom_id := str(row.fields["custom_id"]), row.fields["body"]):
                    self._count("prompts")
                else:
                    detail = f"custom_id {custom_id:.60} asked something else before"
                    yield self._skip(told.source, row.line, "duplicate id", detail)

    def _carriers(self, told: Told, formats: Sequence[RecordFormat]) -> Iterator[Outcome]:
        source, form = told.source, told.format
        self._begin(source.place, form.name if form else "")
        # The same for one file, however often it is given; and the name may be no Unicode.
        first = self._id_places.setdefault(source.key, id_place(source))
        self._id_file = first.encode("utf-8", "backslashreplace").decode()
        convert = form.opened(source, self._inputs) if form else None
        scales = Scales(told.scaled)
        with closing(told.read()) as rows:
            for row in rows:
                self._count("records")
                if isinstance(row, BadRow) or convert is None or form is None:
                    fault = row if isinstance(row, BadRow) else BadRow(row.line, OTHER_FORMAT, "")
                    yield self._skip(source, fault.line, fault.reason, fault.detail)
                    continue
                try:
                    made = self._made(row, form, convert, formats, scales)
                except Unusable as fault:
                    yield self._skip(source, row.line, fault.reason, fault.detail)
                    continue
                for each in made:
                    yield self._carrier(source, row.line, each, form)
        self._notes += [f"{source.place}: {note}" for note in scales.notes()]
        if not self._counts[-1]["records"]:
            raise empty(source)

    def _made(
        self,
        row: Row,
        form: RecordFormat,
        convert: Convert,
        formats: Sequence[RecordFormat],
        scales: Scales,
    ) -> list[Made]:
        """What a record gives, whole.

        Raises:
            Unusable: it is of another format, or at fault.
        """
        # What the library of a log reads has its own names, and no columns.
        columns = {} if form is INSPECT else self._inputs.columns
        fields = with_columns(row.fields, columns)
        if not form.fits(fields):
            other = first_that_fits(fields, formats)
            looks = f"looks like {other.name}" if other else f"got {listed(list(fields))}"
            # Our own records say which field is missing.
            if other is not None or form is not CARRIER:
                raise Unusable(OTHER_FORMAT, f"{looks}; this file is read as {form.name}"[:300])
        if not form.answers and "answer" not in columns:
            fields = set_aside(fields, "answer")
        if form is CHAT:
            fields = scales.set_aside(fields)
        made = list(convert(Row(row.line, fields)))
        # Our own records have their name already.
        whose = [fields] if form is CARRIER else [each.fields for each in made]
        for each in whose:
            self._generators.add(each)
        return made

    def _carrier(self, source: Source, line: int, made: Made, form: RecordFormat) -> Outcome:
        try:
            fields = made.fields
            if form is not CARRIER:
                part = f".{made.part}" if made.part else ""
                place = f"{self._id_file}:{line}{part}"
                fields = completed(fields, place=place, inputs=self._inputs)
            carrier = carrier_from_fields(fields)
        except Unusable as fault:
            return self._skip(source, line, fault.reason, fault.detail)
        first = self._seen.first(carrier.carrier_id, Stood(len(self._counts) - 1, line))
        if first is not None:
            stands = f"{self._told[first.file][0]}:{first.line}"
            detail = f"{carrier.carrier_id!r:.80} stands at {stands} already"
            return self._skip(source, line, "duplicate id", detail)
        self._count("responses")
        self._count("kept")
        self.place = (source.place, line)
        return carrier
