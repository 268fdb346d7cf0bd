"""Tables: Parquet of any shape, ml-ssd, named columns; and one law for all."""

import base64
import datetime
import decimal
import gzip
import io
import math
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from logs import (
    ENDINGS,
    QUESTIONS,
    RECORDS,
    carrier_records,
    chat_records,
    jsonl,
    ml_ssd_records,
    pair_records,
    parquet,
    plainly,
    read,
    write,
)

from probing.carriers.fields import Unusable
from probing.carriers.readers import parquet as parquet_reader
from probing.carriers.readers.formats import with_columns
from probing.carriers.readers.parquet import BASE64, read_parquet
from probing.carriers.readers.sources import Source
from probing.carriers.reading import read_carriers
from probing.carriers.record import Carrier
from probing.errors import NoCarriersLeft, UnreadableInput, UsageFault
from probing.vocabulary import Template


@pytest.mark.parametrize("form", RECORDS)
def test_the_same_records_give_the_same_carriers_however_they_are_stored(
    tmp_path: Path, form: str
) -> None:
    found = {}
    for ending in ENDINGS:
        path = write(tmp_path / f"samples_x{ending}", RECORDS[form]())
        result = read(path)
        # The place is in the id, and the harness's task is told by the name of its file.
        named = [each.carrier_id.replace(str(path), "FILE") for each in result.carriers]
        kept = [{**plainly(each), "source": None} for each in result.carriers]
        problems = [each.problem_id for each in result.carriers]
        skips = [(each.line, each.reason) for each in result.skipped]
        found[ending] = (named, kept, problems, skips)
    assert len(found[".jsonl"][0]) == len(QUESTIONS)
    assert all(each == found[".jsonl"] for each in found.values())


@pytest.mark.parametrize("form", RECORDS)
def test_a_format_asked_for_is_read_as_that(tmp_path: Path, form: str) -> None:
    path = write(tmp_path / "samples_x.jsonl", RECORDS[form]())
    name = "chat" if form == "pair" else form
    assert read(path).files[0].format == name
    assert read(path, format=name) == read(path)
    with pytest.raises(NoCarriersLeft, match="this file is read as"):
        read(path, format="lm-eval" if name != "lm-eval" else "batch")
    with pytest.raises(UnreadableInput, match="no log of Inspect; leave out --format"):
        read(path, format="inspect")
    with pytest.raises(UsageFault, match=r"format must be one of auto, carrier, .* got 'cht'"):
        read(path, format="cht")


def test_lists_of_structs_are_messages(tmp_path: Path) -> None:
    fields = [("role", pyarrow.string()), ("content", pyarrow.string())]
    turn = pyarrow.struct([*fields, ("reasoning_content", pyarrow.string())])
    chats = [
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": "2"}],
        [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": "2", "reasoning_content": "Hmm"},
        ],
        [{"role": "user", "content": "x"}],
        None,
    ]
    table = pyarrow.table(
        {"messages": pyarrow.array(chats, pyarrow.list_(turn)), "model": ["m"] * 4, "n": [1] * 4}
    )
    path = tmp_path / "in.parquet"
    pyarrow.parquet.write_table(table, path)
    result = read(path)
    assert [each.messages for each in result.carriers] == [({"role": "user", "content": "x"},)] * 2
    assert [each.response for each in result.carriers] == ["2", "<think>\nHmm\n</think>\n\n2"]
    assert {each.problem_id for each in result.carriers} == {result.carriers[0].problem_id}
    assert [(each.line, each.reason) for each in result.skipped] == [
        (3, "no response"),
        (4, "no response"),
    ]


def test_ml_ssd_reads_the_models_text_and_not_that_of_the_data(tmp_path: Path) -> None:
    (first, second) = read(write(tmp_path / "train.parquet", ml_ssd_records())).carriers
    assert plainly(first) == {
        "prompt": QUESTIONS[0], "response": "so 0", "generator": "m", "template": Template.RAW,
        "extra": {"dataset_response": "of the data", "dataset_response_passed": True},
    }  # fmt: skip
    assert second.correct is None
    chat = write(tmp_path / "train.jsonl", chat_records())
    (as_chat, _) = read(chat, template=Template.RAW).carriers
    assert (as_chat.prompt, as_chat.response, as_chat.template) == (
        first.prompt, first.response, first.template,
    )  # fmt: skip
    assert as_chat.problem_id == first.problem_id
    faults = [{**ml_ssd_records()[0], "output": value} for value in (None, 7, "")]
    faults += [{**ml_ssd_records()[0], "prompt": None, "messages": 5}]
    result = read(write(tmp_path / "faults.jsonl", [*ml_ssd_records(), *faults]))
    assert [(each.line, each.reason) for each in result.skipped] == [
        (3, "wrong type"),
        (4, "wrong type"),
        (5, "empty response"),
        (6, "no prompt"),
    ]


@pytest.mark.parametrize("ending", ENDINGS)
def test_columns_are_named_in_the_settings(tmp_path: Path, ending: str) -> None:
    rows = [
        {"question": QUESTIONS[n], "text": f"so {n}", "answer": "7", "right": n == 0, "n": n}
        for n in range(2)
    ]
    path = write(tmp_path / f"in{ending}", rows)
    columns = {"prompt": "question", "response": "text", "gold": "answer", "correct": "right"}
    (kept, _) = read(path, columns=columns, generator="m").carriers
    assert plainly(kept) == {
        "prompt": QUESTIONS[0], "response": "so 0", "generator": "m", "gold": "7", "correct": True,
        "extra": {"n": 0},
    }  # fmt: skip
    with pytest.raises(UnreadableInput, match=r"got answer, n, question.*--column FIELD=COLUMN"):
        read(path, generator="m")
    absent = r"no record has the column 'absent' .* `subject`; got answer, n, question, right, text"
    with pytest.raises(UnreadableInput, match=absent):
        read(path, columns=columns | {"subject": "absent"}, generator="m")


def test_a_record_without_a_named_column_is_skipped(tmp_path: Path) -> None:
    rows = [{"q": "x", "response": "y"}, {"prompt": "x", "response": "y"}]
    result = read(write(tmp_path / "in.jsonl", rows), columns={"prompt": "q"}, generator="m")
    assert [(each.line, each.reason) for each in result.skipped] == [(2, "missing field")]
    assert "'q'" in result.skipped[0].detail


def test_columns_name_a_response_beside_a_chat_that_has_one(tmp_path: Path) -> None:
    chat = {**chat_records()[0], "mine": "of the model"}
    path = write(tmp_path / "in.jsonl", [chat])
    assert read(path).carriers[0].response == "so 0"
    (kept,) = read(path, columns={"response": "mine"}).carriers
    assert kept.response == "of the model"
    assert kept.messages is not None
    assert len(kept.messages) == 2


names = st.sampled_from("abcdef")


@given(st.dictionaries(names, st.integers()), st.dictionaries(names, names))
def test_columns_are_renamed_all_at_once(fields: dict[str, Any], columns: dict[str, str]) -> None:
    absent = set(columns.values()) - fields.keys()
    if absent:
        with pytest.raises(Unusable, match="is not there"):
            with_columns(fields, columns)
        return
    renamed = with_columns(fields, columns)
    for name in "abcdef":
        if name in columns:
            assert renamed[name] == fields[columns[name]]
            # What stood there is kept, but where it was renamed itself.
            displaced = name in fields and name not in columns.values()
            assert renamed.get(f"{name}_logged") == (fields[name] if displaced else None)
        elif name in columns.values():
            assert name not in renamed
        else:
            assert renamed.get(name) == fields.get(name)


def test_columns_of_other_tools_cost_no_row(tmp_path: Path) -> None:
    picture = b"\x89PNG\xff"
    rows = [
        {
            **each,
            "extra": extra,
            "image": {"bytes": picture, "path": None},
            "digest": picture,
            "temperature": decimal.Decimal("0.70"),
            "gold": decimal.Decimal("7.50"),
        }
        for each, extra in zip(pair_records(), ("see page 7", '{"a": 1}'), strict=True)
    ]
    for n, kept in enumerate(read(write(tmp_path / "in.parquet", rows)).carriers):
        # A text called so is a text, also where it would be JSON.
        assert kept.extra["extra"] == rows[n]["extra"]
        for found in (kept.extra["digest"], kept.extra["image"]["bytes"]):
            assert base64.b64decode(found[BASE64]) == picture
        assert (kept.temperature, kept.gold) == (0.7, "7.50")
    assert n == 1
    # A response that is no text is no response.
    rows[0] |= {"completion": picture}
    rows[1] |= {"completion": b"so 1"}
    result = read(write(tmp_path / "binary.parquet", rows))
    assert [(each.line, each.reason) for each in result.skipped] == [(1, "wrong type")]
    assert [each.response for each in result.carriers] == ["so 1"]


def test_a_decimal_is_a_number_under_any_name_and_in_our_own_files(tmp_path: Path) -> None:
    hot = decimal.Decimal("1.5")
    rows = [{**each, "sampled_at": hot} for each in pair_records()]
    named = read(write(tmp_path / "in.parquet", rows), columns={"temperature": "sampled_at"})
    assert [each.temperature for each in named.carriers] == [1.5, 1.5]
    own = [{**each, "temperature": hot} for each in carrier_records()]
    kept = read(write(tmp_path / "own.parquet", own)).carriers
    assert [each.temperature for each in kept] == [1.5, 1.5]
    assert [each.extra for each in kept] == [{"note": {"n": n}} for n in (0, 1)]
    texts = ["0.5", "nan", "1e999", "hot"]
    spelt = [{**pair_records()[0], "temperature": text} for text in texts]
    kept = read(write(tmp_path / "in.jsonl", spelt)).carriers
    assert [each.temperature for each in kept] == [0.5, None, None, None]
    assert [each.extra.get("temperature") for each in kept] == [None, *texts[1:]]


def _zoned(zone: str) -> pyarrow.Array:
    return pyarrow.array([0, 0], pyarrow.timestamp("s", zone))


VALUES: list[tuple[str, Callable[[], pyarrow.Array]]] = [
    ("a year past 9999", lambda: pyarrow.array([2**40, 0], pyarrow.timestamp("s"))),
    ("a date past 9999", lambda: pyarrow.array([2**30, 0], pyarrow.date32())),
]


@pytest.mark.parametrize(("what", "column"), VALUES, ids=[name for name, _ in VALUES])
def test_a_value_that_python_cannot_hold_costs_its_row(
    tmp_path: Path, what: str, column: Callable[[], pyarrow.Array]
) -> None:
    table = pyarrow.Table.from_pylist(pair_records()).append_column("when", column())
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    result = read(tmp_path / "in.parquet")
    assert [(each.line, each.reason) for each in result.skipped] == [(1, "wrong type")]
    assert result.carriers[0].extra["when"].startswith("1970-01-01")


def test_an_unknown_time_zone_costs_its_rows(tmp_path: Path) -> None:
    table = pyarrow.Table.from_pylist(pair_records()).append_column("when", _zoned("Mars/Phobos"))
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(NoCarriersLeft, match="a value cannot be read"):
        read(tmp_path / "in.parquet")


def test_dates_and_numbers_that_are_none_stay_as_they_are(tmp_path: Path) -> None:
    beside = {"when": datetime.date(2000, 1, 2), "x": float("nan")}
    path = write(tmp_path / "in.parquet", [{**each, **beside} for each in pair_records()])
    (kept, _) = read_carriers([str(path)]).carriers
    assert kept.extra["when"] == "2000-01-02"
    assert math.isnan(kept.extra["x"])


def _long_table(rows: int) -> bytes:
    """Pages of a few rows each, all of other content."""
    target = pyarrow.BufferOutputStream()
    records = [{"prompt": f"q{n}", "response": f"{n}" * 50, "model": "m"} for n in range(rows)]
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist(records), target, row_group_size=rows // 4, compression="none"
    )
    return bytes(target.getvalue())


def test_a_table_that_is_damaged_further_on_keeps_what_came_before(tmp_path: Path) -> None:
    rows = 4 * parquet_reader.BATCH_ROWS
    whole = bytearray(_long_table(rows))
    path = tmp_path / "in.parquet"
    path.write_bytes(whole)
    assert len(read(path).carriers) == rows
    # The header of a page is what cannot be guessed: here, of the third row group.
    with pyarrow.parquet.ParquetFile(path) as file:
        at = file.metadata.row_group(2).column(0).dictionary_page_offset
    whole[at : at + 8] = b"\xff" * 8
    path.write_bytes(whole)
    result = read(path)
    assert len(result.carriers) == rows // 2
    (skipped,) = result.skipped
    assert (skipped.line, skipped.reason) == (rows // 2 + 1, "damaged file")


def test_a_table_is_not_read_through_other_compression(tmp_path: Path) -> None:
    for name, pack in (("in.parquet.gz", gzip.compress), ("in.parquet.zst", zstandard.compress)):
        (tmp_path / name).write_bytes(pack(parquet(pair_records())))
        with pytest.raises(UnreadableInput, match=r"is compressed.*unpack it first"):
            read(tmp_path / name)


def test_two_columns_may_not_have_one_name(tmp_path: Path) -> None:
    table = pyarrow.Table.from_pylist(pair_records())
    pyarrow.parquet.write_table(
        table.append_column("model", table["model"]), tmp_path / "a.parquet"
    )
    with pytest.raises(UnreadableInput, match="a name of its own, got model twice"):
        read(tmp_path / "a.parquet")


def test_rows_of_a_table_are_read_in_blocks_and_none_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": f"q{n}", "response": f"r{n}", "model": "m"} for n in range(50)]
    path = write(tmp_path / "in.parquet", rows)
    for block in (1, 7, 49, 50, 51):
        monkeypatch.setattr(parquet_reader, "BATCH_ROWS", block)
        kept = read(path).carriers
        assert [each.response for each in kept] == [f"r{n}" for n in range(50)]
        assert [each.carrier_id for each in kept] == [f"{path}:{n + 1}" for n in range(50)]


@pytest.mark.parametrize("group_rows", [1_000_000, 500])
def test_a_table_is_read_as_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group_rows: int
) -> None:
    noise = np.random.default_rng(0)
    said = [noise.bytes(4000).hex() for _ in range(2000)]
    table = pyarrow.table({"prompt": said, "output": said, "model": ["m"] * len(said)})
    path = tmp_path / "in.parquet"
    pyarrow.parquet.write_table(table, path, row_group_size=group_rows, compression="none")
    taken: list[int] = []

    class Counted(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            got = super().read(-1 if size is None else size)
            taken.append(len(got))
            return got

    monkeypatch.setattr(Source, "open", lambda source: Counted(source.place))
    with closing(read_parquet(Source(str(path)))) as rows:
        next(rows)
        first = sum(taken)
        assert sum(1 for _ in rows) == len(said) - 1
    assert first < path.stat().st_size * 0.7
    # At most a page at once, which the writer made.
    assert max(taken) < path.stat().st_size / 3
    assert sum(taken) > path.stat().st_size * 0.9


def test_numbers_of_lines_count_blank_ones(tmp_path: Path) -> None:
    (one, two) = chat_records()
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\n\n" + jsonl([one]) + b"  \n" + jsonl([two]))
    kept = read(path).carriers
    assert [each.carrier_id for each in kept] == [f"{path}:3", f"{path}:5"]
    assert isinstance(kept[0], Carrier)
