"""Carriers in and out: exact round trips, and every fault named with its place."""

import datetime
import decimal
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from probing.carriers.fields import DEEPEST, KNOWN
from probing.carriers.reading import read_carriers
from probing.carriers.record import Carrier, ReadResult
from probing.carriers.writing import write_carriers
from probing.errors import NoCarriersLeft, RecordFault, UnreadableInput, UnwritablePath, UsageFault
from probing.vocabulary import Template

ENDINGS = (".jsonl", ".jsonl.zst", ".parquet")
GOOD: dict[str, Any] = {
    "carrier_id": "a", "problem_id": "p", "prompt": "1 + 1 =", "response": "2", "generator": "m",
}  # fmt: skip

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
filled = texts.filter(bool)
ids = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=5).map(tuple)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)
# Names of the record's own fields too, and `extra` itself.
extras = st.dictionaries(texts | st.sampled_from((*KNOWN, "extra")), json_values, max_size=3)


@st.composite
def carrier_fields(draw: st.DrawFn) -> dict[str, Any]:
    """Fields of a carrier; built in the test, because shape checks inside a strategy draw."""
    with_ids = draw(st.booleans())
    optional = st.none() | texts
    message = st.fixed_dictionaries({"role": st.just("user"), "content": texts})
    return {
        "carrier_id": draw(filled),
        "problem_id": draw(filled),
        "response": draw(filled),
        "generator": draw(filled),
        "prompt": draw(texts if not with_ids else optional),
        "messages": draw(st.none() | st.lists(message, min_size=1, max_size=2).map(tuple)),
        "prompt_token_ids": draw(ids) if with_ids else None,
        "response_token_ids": draw(ids) if with_ids else None,
        "template": draw(st.sampled_from(Template)),
        "gold": draw(optional),
        "answer": draw(optional),
        "correct": draw(st.none() | st.booleans()),
        "finish_reason": draw(optional),
        "temperature": draw(st.none() | st.floats(0, 5)),
        "difficulty": draw(optional),
        "subject": draw(optional),
        "source": draw(optional),
        "sampling_probability": draw(st.floats(0.001, 1)),
        "extra": draw(extras),
    }


@pytest.mark.parametrize("ending", ENDINGS)
@given(st.lists(carrier_fields(), min_size=1, max_size=4, unique_by=lambda c: c["carrier_id"]))
def test_what_is_written_is_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, ending: str, fields: list[dict[str, Any]]
) -> None:
    records = [Carrier(**one) for one in fields]
    path = tmp_path_factory.mktemp("round") / f"carriers{ending}"
    write_carriers(records, path)
    result = read_carriers([str(path)])
    assert list(result.carriers) == records
    assert result.skipped == ()
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def _write(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"\n".join(lines))
    return path


def _line(**changes: Any) -> bytes:
    fields = GOOD | changes
    return json.dumps({k: v for k, v in fields.items() if v != "absent"}).encode()


def _read(*paths: Path) -> ReadResult:
    return read_carriers([str(path) for path in paths])


def _nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def numbered(cases: Sequence[tuple[str, object]]) -> list[str]:
    """Names of cases, several of which have the same outcome."""
    return [f"{number} {outcome}" for number, (outcome, _) in enumerate(cases)]


FAULTS: list[tuple[str, bytes]] = [
    ("bad JSON", b'{"carrier_id": '),
    ("bad JSON", b'{"a": ' + b"[" * 100_000),
    ("bad JSON", b'{"a": ' + b"1" * 5000 + b"}"),
    ("bad JSON", _line(note=_nested(300))),
    ("not an object", b"[1, 2]"),
    ("not an object", b"null"),
    ("missing field", _line(generator="absent")),
    ("missing field", _line(generator=None)),
    ("missing field", _line(generator="")),
    ("missing field", _line(carrier_id="")),
    ("missing field", _line(prompt="absent")),
    ("missing field", _line(prompt_token_ids=[], response_token_ids=[1])),
    ("wrong type", _line(response=7)),
    ("wrong type", _line(prompt_token_ids=[1], response_token_ids=["a"])),
    ("wrong type", _line(prompt_token_ids=[1], response_token_ids=[True])),
    ("wrong type", _line(prompt_token_ids=[1], response_token_ids=[-1])),
    ("wrong type", _line(correct="yes")),
    ("wrong type", _line(messages=[])),
    ("wrong type", _line(messages=[{"content": "x"}])),
    ("wrong type", _line(messages=[{"role": "user"}])),
    ("wrong type", _line(temperature="1.0")),
    ("wrong type", _line(temperature=float("nan"))),
    ("wrong type", _line(temperature=10**400)),
    ("wrong type", _line(sampling_probability=0)),
    ("duplicate id", _line(carrier_id="first")),
    ("empty response", _line(response="")),
    ("empty response", _line(prompt_token_ids=[1], response_token_ids=[])),
    ("ids on one side", _line(response_token_ids=[1])),
    ("invalid text", b'{"carrier_id": "\xff"}'),
    ("invalid text", b'{"carrier_id": "\x00"}'),
    ("invalid text", _line(response="a\0b")),
    ("invalid text", _line(response="\ud800")),
    ("invalid text", _line(messages=[{"role": "\udfff", "content": "x"}])),
    ("invalid text", _line(note={"deep": ["\ud800"]})),
    ("invalid text", _line(note={"\ud800": 1})),
    ("invalid text", _line(**{"\ud800": 1})),
    ("invalid text", _line(extra={"prompt_token_ids": "\ud800"})),
    ("unknown template", _line(template="jinja")),
    ("unknown template", _line(template=["chat"])),
]


@pytest.mark.parametrize(("reason", "fault"), FAULTS, ids=numbered(FAULTS))
def test_a_record_at_fault_is_skipped_and_named(tmp_path: Path, reason: str, fault: bytes) -> None:
    path = _write(tmp_path / "in.jsonl", _line(carrier_id="first"), b"", fault, _line())
    result = _read(path)
    assert [carrier.carrier_id for carrier in result.carriers] == ["first", "a"]
    (skipped,) = result.skipped
    assert (skipped.file, skipped.line, skipped.reason) == (str(path), 3, reason)
    assert 0 < len(skipped.detail) < 500
    assert result.rows_read == 3
    with pytest.raises(RecordFault, match=rf"in\.jsonl:3: {reason}: .*leave out --strict"):
        read_carriers([str(path)], strict=True)


@given(st.dictionaries(st.sampled_from((*KNOWN, "extra", "other")), json_values))
def test_any_object_is_kept_whole_or_skipped_by_name(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    result = _read(_write(folder / "in.jsonl", _line(carrier_id="first"), _line(**changes)))
    assert len(result.carriers) + len(result.skipped) == result.rows_read == 2
    for ending in ENDINGS:
        write_carriers(result.carriers, folder / f"again{ending}")
        assert _read(folder / f"again{ending}").carriers == result.carriers


@pytest.mark.parametrize("levels", range(DEEPEST - 1, DEEPEST + 4))
@pytest.mark.parametrize("name", ["note", "extra"])
def test_what_is_nested_as_deep_as_can_be_read_can_be_written(
    tmp_path: Path, name: str, levels: int
) -> None:
    value = _nested(levels)
    path = _write(tmp_path / "in.jsonl", _line(carrier_id="first"), _line(**{name: value}))
    kept = _read(path).carriers
    assert len(kept) == (2 if levels <= DEEPEST + 1 else 1)
    for ending in ENDINGS:
        write_carriers(kept, tmp_path / f"again{ending}")
        assert _read(tmp_path / f"again{ending}").carriers == kept


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_any_bytes_between_good_lines_cost_only_themselves(
    tmp_path_factory: pytest.TempPathFactory, rubbish: list[bytes]
) -> None:
    lines = (_line(carrier_id="first"), *rubbish, _line(carrier_id="last"))
    path = _write(tmp_path_factory.mktemp("bytes") / "in.jsonl", *lines)
    result = _read(path)
    assert [carrier.carrier_id for carrier in result.carriers] == ["first", "last"]
    filled_lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    assert result.rows_read == len(filled_lines) == len(result.skipped) + 2


def test_ids_are_unique_over_files_and_unknown_fields_are_kept(tmp_path: Path) -> None:
    one = _write(tmp_path / "one.jsonl", _line(note={"a": [1, None]}))
    two = _write(tmp_path / "two.jsonl", _line(), _line(carrier_id="b"))
    result = _read(tmp_path)
    assert result.carriers[0].extra == {"note": {"a": [1, None]}}
    assert [c.carrier_id for c in result.carriers] == ["a", "b"]
    assert result.skipped[0].file == str(two)
    assert f"{one}:1" in result.skipped[0].detail


def test_a_file_given_twice_repeats_every_id(tmp_path: Path) -> None:
    path = _write(tmp_path / "in.jsonl", _line(), _line(carrier_id="b"))
    result = _read(path, path)
    assert len(result.carriers) == 2
    assert [skipped.reason for skipped in result.skipped] == ["duplicate id"] * 2


def test_a_field_under_extra_does_not_hide_one_beside_it(tmp_path: Path) -> None:
    result = _read(_write(tmp_path / "in.jsonl", _line(extra={"note": 1}, note=2)))
    assert result.carriers[0].extra == {"extra": {"note": 1}, "note": 2}


def test_byte_order_mark_crlf_and_blank_lines_are_tolerated(tmp_path: Path) -> None:
    path = tmp_path / "windows.jsonl"
    blank = b"\r\n" * 5000
    path.write_bytes(b"\xef\xbb\xbf" + blank + _line() + b"\r\n" + _line(carrier_id="b") + b"\r\n")
    result = _read(path)
    assert (len(result.carriers), result.rows_read, result.skipped) == (2, 2, ())


def test_a_damaged_first_line_is_one_record_at_fault(tmp_path: Path) -> None:
    result = _read(_write(tmp_path / "in.jsonl", b'oops"}', _line()))
    assert (len(result.carriers), result.skipped[0].line) == (1, 1)


def test_the_format_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    record = Carrier(**GOOD)
    for ending in ENDINGS:
        write_carriers([record], tmp_path / f"in{ending}")
        (tmp_path / f"in{ending}").rename(tmp_path / "in.dat")
        assert _read(tmp_path / "in.dat").carriers == (record,)


def test_a_zstandard_stream_cut_anywhere_is_never_taken_for_whole(tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl.zst"
    # Text that hardly compresses, in blocks of a few records each.
    noise = np.random.default_rng(0)
    lines = [_line(carrier_id=f"c{i}", response=noise.bytes(2000).hex()) for i in range(400)]
    whole = zstandard.compress(b"\n".join(lines) + b"\n")
    for cut in range(1, len(whole) // 2, len(whole) // 30):
        path.write_bytes(whole[:-cut])
        result = _read(path)
        assert 100 < len(result.carriers) < 400
        (skipped,) = result.skipped
        assert (skipped.line, skipped.reason) == (len(result.carriers) + 1, "damaged file")


def test_zstandard_frames_one_after_another_are_one_file(tmp_path: Path) -> None:
    path = tmp_path / "frames.jsonl.zst"
    frames = (zstandard.compress(_line(carrier_id=str(i)) + b"\n") for i in range(3))
    path.write_bytes(b"".join(frames))
    assert [carrier.carrier_id for carrier in _read(path).carriers] == ["0", "1", "2"]


def _table(**columns: list[Any] | pyarrow.Array) -> pyarrow.Table:
    """Two rows with these columns, the others as in `GOOD`."""
    plain: dict[str, Any] = {name: [value] * 2 for name, value in GOOD.items()}
    return pyarrow.table(plain | {"carrier_id": ["a", "b"]} | columns)


def _half_utf8() -> pyarrow.Array:
    unchecked = pyarrow.array([b"\xff", b"fine"])
    return pyarrow.Array.from_buffers(pyarrow.string(), 2, unchecked.buffers())


PARQUET_FAULTS: list[tuple[str, Callable[[], pyarrow.Table]]] = [
    ("invalid text", lambda: _table(response=_half_utf8())),
    ("invalid text", lambda: _table(subject=[b"\xff", b"fine"])),
    ("invalid text", lambda: _table(response=["a\0b", "fine"])),
    ("bad JSON", lambda: _table(extra=["[" * 100_000, None])),
    ("bad JSON", lambda: _table(extra=["{", "{}"])),
    ("missing field", lambda: _table(generator=[None, "m"])),
    ("empty response", lambda: _table(response=["", "fine"])),
    ("wrong type", lambda: _table(temperature=[float("inf"), 1.0])),
    ("wrong type", lambda: _table(messages=["[]", None])),
]


@pytest.mark.parametrize(("reason", "table"), PARQUET_FAULTS, ids=numbered(PARQUET_FAULTS))
def test_a_parquet_row_at_fault_is_skipped_and_named(
    tmp_path: Path, reason: str, table: Callable[[], pyarrow.Table]
) -> None:
    path = tmp_path / "in.parquet"
    pyarrow.parquet.write_table(table(), path)
    result = _read(path)
    assert [carrier.carrier_id for carrier in result.carriers] == ["b"]
    assert [(item.line, item.reason) for item in result.skipped] == [(1, reason)]
    assert result.rows_read == 2


def test_parquet_of_others_gives_plain_values(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    turns = [{"role": "user", "content": "hello"}]
    table = _table(
        messages=[turns, turns],
        when=[datetime.datetime(2020, 1, 2, 3, tzinfo=datetime.UTC)] * 2,
        price=[decimal.Decimal("1.50"), None],
        raw=[b"bytes", b""],
        pairs=pyarrow.array([[("k", 1)], []], pyarrow.map_(pyarrow.string(), pyarrow.int64())),
    )
    pyarrow.parquet.write_table(table, path)
    first, second = _read(path).carriers
    assert first.messages == tuple(turns)
    assert first.extra == {
        "when": "2020-01-02T03:00:00+00:00", "price": "1.50", "raw": "bytes", "pairs": [["k", 1]],
    }  # fmt: skip
    assert second.extra["price"] is None
    write_carriers([first, second], tmp_path / "again.jsonl")
    assert _read(tmp_path / "again.jsonl").carriers == (first, second)


def _parquet_bytes(table: pyarrow.Table) -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def _damaged_page() -> bytes:
    whole = bytearray(_parquet_bytes(_table(response=["x" * 5000, "y" * 5000])))
    for index in range(40, 300):
        whole[index] ^= 0x5A
    return bytes(whole)


UNREADABLE: list[tuple[str, bytes | None]] = [
    ("of responses is needed, got: No such file.*check the path", None),
    ("is empty: no record of a response; see docs/inputs", b""),
    ("is empty", b"  \n"),
    ("is empty", b"\xef\xbb\xbf\r\n"),
    ("is empty", zstandard.compress(b"")),
    ("is empty", _parquet_bytes(_table().slice(0, 0))),
    ("of no known format, got b'hello'; see docs/inputs", b"hello"),
    ("got: Compressed file ended", b"\x1f\x8b123"),
    ("of no known format", '{"carrier_id": "a"}'.encode("utf-16")),
    ("of no known format", json.dumps([GOOD], indent=2).encode()),
    ("of no known format", zstandard.compress(b"a,b\n1,2\n")),
    ("got: Truncated", zstandard.compress(_line())[:-3]),
    ("cannot be read as Parquet", b"PAR1abc"),
    ("cannot be read as Parquet", _parquet_bytes(_table())[:-20]),
    ("cannot be read as Parquet", _damaged_page()),
    (
        "a name of its own, got response twice",
        _parquet_bytes(_table().append_column("response", [["x", "y"]])),
    ),
]


@pytest.mark.parametrize(("message", "content"), UNREADABLE, ids=numbered(UNREADABLE))
def test_a_file_that_cannot_be_read_is_a_named_fault(
    tmp_path: Path, message: str, content: bytes | None
) -> None:
    path = tmp_path / "in.dat"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableInput, match=rf"(?s)in\.dat.*{message}"):
        _read(path)


def test_a_folder_without_carriers_and_a_file_without_usable_records(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(
        UnreadableInput, match=r"stands for no file of responses.*\.jsonl.*got none"
    ):
        _read(tmp_path)
    with pytest.raises(UnreadableInput, match="check the path"):
        read_carriers(["a\0b"])
    path = _write(tmp_path / "in.jsonl", b'{"note": 1}')
    with pytest.raises(UnreadableInput, match=r"must look like one of carrier.*got note; name its"):
        _read(path)
    path = _write(tmp_path / "in.jsonl", _line(generator="absent"))
    with pytest.raises(NoCarriersLeft, match=r"in\.jsonl:1: missing field"):
        _read(path)


def test_writing_where_it_cannot_be_leaves_nothing(tmp_path: Path) -> None:
    record = Carrier(**GOOD)
    (tmp_path / "file").write_text("as it was")
    (tmp_path / "folder.jsonl").mkdir()
    for place in ("absent/out.jsonl", "file/out.jsonl", "folder.jsonl"):
        with pytest.raises(UnwritablePath, match=r"cannot write .*choose another"):
            write_carriers([record], tmp_path / place)
    with pytest.raises(UsageFault, match=r"\.jsonl, .* got .*out\.txt"):
        write_carriers([record], tmp_path / "out.txt")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["file", "folder.jsonl"]
    assert (tmp_path / "file").read_text() == "as it was"


UNWRITABLE: list[tuple[str, dict[str, Any]]] = [
    ("lone surrogate", {"response": "\ud800"}),
    ("lone surrogate", {"extra": {"note": ["\udc00"]}}),
    ("NUL", {"prompt": "a\0b"}),
    ("empty response", {"response": ""}),
    ("not JSON serializable", {"extra": {"note": {1, 2}}}),
    ("token ids", {"prompt_token_ids": (1,), "response_token_ids": (2**31,)}),
    ("duplicate id", {"carrier_id": "first"}),
]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(("fault", "fields"), UNWRITABLE, ids=numbered(UNWRITABLE))
def test_what_would_not_be_read_back_is_not_written(
    tmp_path: Path, ending: str, fault: str, fields: dict[str, Any]
) -> None:
    path = tmp_path / f"out{ending}"
    good = Carrier(**(GOOD | {"carrier_id": "first"}))
    write_carriers([good], path)
    with pytest.raises(RecordFault, match=f"would not be read back: .*{fault}.*mend the record"):
        write_carriers([good, Carrier(**(GOOD | fields))], path)
    assert _read(path).carriers == (good,)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_without_carriers_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(NoCarriersLeft, match="at least one record"):
        write_carriers([], tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []
