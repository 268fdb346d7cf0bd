"""Carriers in and out: exact round trips, and every fault named with its place."""

import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from probing.carriers.reading import read_carriers
from probing.carriers.record import Carrier
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
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts
extras = st.dictionaries(filled, scalars | st.lists(scalars, max_size=3), max_size=3)


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
        "generator": draw(texts),
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


FAULTS = {
    "bad JSON": b'{"carrier_id": ',
    "not an object": b"[1, 2]",
    "missing field": _line(generator="absent"),
    "missing field ": _line(prompt="absent"),
    "wrong type": _line(response=7),
    "wrong type ": _line(response_token_ids=["a"], prompt_token_ids=[1]),
    "wrong type  ": _line(correct="yes"),
    "wrong type   ": _line(messages=[{"content": "x"}]),
    "duplicate id": _line(carrier_id="first"),
    "empty response": _line(response=""),
    "ids on one side": _line(response_token_ids=[1]),
    "invalid text": b'{"carrier_id": "\xff"}',
    "invalid text ": b'{"carrier_id": "\x00"}',
    "invalid text  ": b'{"carrier_id":"a","problem_id":"p","response":"\\ud800","generator":"m"}',
    "unknown template": _line(template="jinja"),
    "bad JSON ": b"{" + b'"a":[' * 100_000,
}


@pytest.mark.parametrize("reason", FAULTS)
def test_a_record_at_fault_is_skipped_and_named(tmp_path: Path, reason: str) -> None:
    path = _write(tmp_path / "in.jsonl", _line(carrier_id="first"), b"", FAULTS[reason], _line())
    result = read_carriers([str(path)])
    assert [carrier.carrier_id for carrier in result.carriers] == ["first", "a"]
    (skipped,) = result.skipped
    assert (skipped.file, skipped.line) == (str(path), 3)
    assert skipped.reason == reason.strip()
    assert result.rows_read == 3
    with pytest.raises(RecordFault, match=r"in\.jsonl:3"):
        read_carriers([str(path)], strict=True)


def test_ids_are_unique_over_files_and_unknown_fields_are_kept(tmp_path: Path) -> None:
    one = _write(tmp_path / "one.jsonl", _line(note={"a": [1, None]}))
    two = _write(tmp_path / "two.jsonl", _line(), _line(carrier_id="b"))
    result = read_carriers([str(tmp_path)])
    assert result.carriers[0].extra == {"note": {"a": [1, None]}}
    assert [c.carrier_id for c in result.carriers] == ["a", "b"]
    assert result.skipped[0].file == str(two)
    assert str(one) in result.skipped[0].detail


def test_byte_order_mark_and_crlf_are_tolerated(tmp_path: Path) -> None:
    path = tmp_path / "windows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + _line() + b"\r\n" + _line(carrier_id="b") + b"\r\n")
    assert len(read_carriers([str(path)]).carriers) == 2


def test_a_damaged_zstandard_stream_keeps_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl.zst"
    lines = b"\n".join(_line(carrier_id=f"c{i}", response=str(i) * 50) for i in range(20_000))
    path.write_bytes(zstandard.ZstdCompressor().compress(lines)[:-20_000])
    result = read_carriers([str(path)])
    assert len(result.carriers) > 100
    assert result.skipped[-1].reason in {"damaged compression", "bad JSON"}


@pytest.mark.parametrize("content", [None, b"", b"  \n", b"hello", b"\x1f\x8b123", b"PAR1abc"])
def test_a_file_that_cannot_be_read_is_a_named_fault(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "in.dat"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableInput, match=r"in\.dat"):
        read_carriers([str(path)])


def test_a_folder_without_carriers_and_a_file_without_usable_records(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInput, match="holds no file"):
        read_carriers([str(tmp_path)])
    path = _write(tmp_path / "in.jsonl", b"{}")
    with pytest.raises(NoCarriersLeft, match=r"in\.jsonl:1: missing field"):
        read_carriers([str(path)])


def test_writing_where_it_cannot_be_leaves_nothing(tmp_path: Path) -> None:
    record = Carrier(carrier_id="a", problem_id="p", response="r", generator="m", prompt="q")
    with pytest.raises(UnwritablePath, match="cannot write"):
        write_carriers([record], tmp_path / "absent" / "out.jsonl")
    with pytest.raises(UsageFault, match=r"\.jsonl"):
        write_carriers([record], tmp_path / "out.txt")
    assert list(tmp_path.iterdir()) == []
