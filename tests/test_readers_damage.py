"""Damaged logs: what cannot be read is named, and nothing else is lost."""

import gzip
import json
import random
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import (
    ENDINGS,
    RECORDS,
    Record,
    batch_input,
    chat_records,
    check_nothing_lost,
    jsonl,
    parquet,
    read,
    write,
)

from probing.carriers.readers import jsonl as jsonl_reader
from probing.carriers.readers.seen import Seen, Stood
from probing.carriers.reading import read_carriers
from probing.carriers.record import ReadResult
from probing.errors import NoCarriersLeft, ProbingError, UnreadableInput
from probing.settings import Inputs

FORMS = {name: jsonl(make()) for name, make in RECORDS.items()} | {
    "batch input": jsonl(batch_input())
}
"""One valid file of every format that is lines."""
FILES = {
    **{f"{name}.jsonl": content for name, content in FORMS.items()},
    **{f"{name}.gz": gzip.compress(content, mtime=0) for name, content in FORMS.items()},
    **{f"{name}.zst": zstandard.compress(content) for name, content in FORMS.items()},
    **{f"{name}.parquet": parquet(make()) for name, make in RECORDS.items()},
}
CORPUS = 2000


def read_any(*paths: Path) -> ReadResult | None:
    """What is in files of any content; None where they are refused by name, as a whole."""
    try:
        result = read_carriers([str(path) for path in paths])
    except ProbingError as error:
        refused = str(error)
    else:
        check_nothing_lost(result)
        return result
    assert 20 < len(refused) < 3000
    return None


# Mutations


def mutated(content: bytes, rng: random.Random) -> bytes:
    """A file with one to three of: bytes flipped, gone, put in, or said twice; lines of another
    format among them; cut short."""
    made = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at, length = rng.randrange(len(made) + 1), rng.choice([1, 1, 2, 8, 40])
        match rng.choice(["flip", "delete", "insert", "repeat", "lines", "cut", "token"]):
            case "flip":
                for place in range(at, min(at + length, len(made))):
                    made[place] ^= 1 << rng.randrange(8)
            case "delete":
                del made[at : at + length]
            case "insert":
                made[at:at] = rng.randbytes(length)
            case "repeat":
                made[at:at] = made[at : at + length]
            case "token":
                made[at : at + length] = rng.choice(TOKENS)
            case "lines":
                lines = bytes(made).split(b"\n")
                others = rng.choice(list(FORMS.values())).split(b"\n")
                lines[rng.randrange(len(lines))] = rng.choice(others)
                made = bytearray(b"\n".join(lines))
            case _:
                del made[at:]
    return bytes(made)


TOKENS = (
    b"\0", b"\xff", b"\n", b"\r\n", b'"', b"null", b"[" * 3000, b'{"a":' * 300, b"1e999", b"NaN",
    b"9" * 5000, b'"\\ud800"', b"\xef\xbb\xbf", b"\x1f\x8b", b"PAR1", b"PK\x03\x04", b"-1", b"{}",
)  # fmt: skip


def test_two_thousand_damaged_files_are_read_or_refused_by_name(tmp_path: Path) -> None:
    rng = random.Random(0)
    whole, refused = 0, 0
    for number in range(CORPUS):
        # Damage of compressed files is soon said; that of lines goes further.
        name = rng.choice([*FILES, *(one for one in FILES if one.endswith(".jsonl"))])
        path = tmp_path / f"samples_{number}.{name.split('.')[-1]}"
        path.write_bytes(mutated(FILES[name], rng))
        # Batches are read beside what they ask, or what asks beside an answer.
        beside = tmp_path / "asked.jsonl"
        beside.write_bytes(FORMS["batch input"])
        result = read_any(*([path, beside] if "batch" in name else [path]))
        whole, refused = whole + (result is not None), refused + (result is None)
        path.unlink()
    # Both ends happen, and often.
    assert whole > CORPUS / 4
    assert refused > CORPUS / 10


@st.composite
def places(draw: st.DrawFn) -> tuple[str, int]:
    return draw(st.sampled_from(sorted(FILES))), draw(st.integers(0, 2**32))


@settings(max_examples=150)
@given(places())
def test_a_damaged_file_is_read_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[str, int]
) -> None:
    name, seed = place
    path = tmp_path_factory.mktemp("damage") / f"samples_x.{name.split('.')[-1]}"
    path.write_bytes(mutated(FILES[name], random.Random(seed)))
    read_any(path)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "x", "assistant", "a\0b", "\ud800", 10**400, -1, 0, 1]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["role", "content", "text", "a", "type"]), inner, max_size=2
        )
    ),
    max_leaves=4,
)


@st.composite
def altered(draw: st.DrawFn) -> tuple[str, list[Record]]:
    """Records of a format of which one value, anywhere in them, is another, or is gone."""
    form = draw(st.sampled_from(sorted(FORMS)))
    records = json.loads(json.dumps([json.loads(line) for line in FORMS[form].splitlines()]))
    at: Any = draw(st.sampled_from(records))
    while True:
        key = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if isinstance(at[key], dict | list) and at[key] and draw(st.integers(0, 3)):
            at = at[key]
            continue
        if draw(st.booleans()) and isinstance(at, dict):
            del at[key]
        else:
            at[key] = draw(values)
        return form, records


@settings(max_examples=400)
@given(altered())
def test_a_value_of_any_kind_anywhere_costs_at_most_its_record(
    tmp_path_factory: pytest.TempPathFactory, given_records: tuple[str, list[Record]]
) -> None:
    form, records = given_records
    folder = tmp_path_factory.mktemp("values")
    path, beside = folder / "samples_x.jsonl", folder / "asked.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    beside.write_bytes(FORMS["batch input"])
    result = read_any(*([path, beside] if form == "batch" else [path]))
    if result is not None and form != "batch input":
        assert len(result.carriers) >= 1


# Damage of one sort each


@pytest.mark.parametrize("form", FORMS)
def test_a_gzip_cut_at_any_byte_is_never_taken_for_whole(tmp_path: Path, form: str) -> None:
    whole = gzip.compress(FORMS[form], mtime=0)
    path = tmp_path / "samples_x.jsonl.gz"
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        before = zlib.decompressobj(31).decompress(whole[:cut])
        try:
            result = read_carriers([str(path)], inputs=Inputs(generator="m"))
        except UnreadableInput:
            # Only where nothing at all can be had.
            assert len(before.strip()) < 20
            continue
        except NoCarriersLeft:
            assert before.count(b"\n") < 2 or form == "batch input"
            continue
        check_nothing_lost(result)
        assert result.skipped[-1].reason == "damaged file"
        # What came before the damage is what it was.
        assert result.skipped[-1].line <= before.count(b"\n") + 1
        assert result.rows_read >= before.count(b"\n")


@pytest.mark.parametrize("form", RECORDS)
def test_a_table_cut_at_any_byte_is_refused(tmp_path: Path, form: str) -> None:
    whole = parquet(RECORDS[form]())
    path = tmp_path / "in.parquet"
    for cut in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:cut])
        with pytest.raises(UnreadableInput):
            read_carriers([str(path)])


def test_lines_of_all_formats_in_one_file_are_each_kept_or_named(tmp_path: Path) -> None:
    lines = [line for content in FORMS.values() for line in content.splitlines()]
    path = tmp_path / "in.jsonl"
    for first in FORMS:
        start = FORMS[first].splitlines()
        if first == "batch input":
            # Prompts alone are no carrier, where most are prompts; elsewhere they cost themselves.
            path.write_bytes(b"\n".join([*start * len(lines), *lines]))
            assert read_any(path) is None
        path.write_bytes(b"\n".join([*start, *lines]))
        result = read_any(path)
        assert result is not None
        assert result.rows_read == len(start) + len(lines)
        named = [each.reason for each in result.skipped]
        assert "another format" in named


BAD_LINES: list[tuple[str, bytes]] = [
    ("invalid text", b'{"messages": "\xff"}'),
    ("invalid text", b'{"messages": "\x00"}'),
    ("bad JSON", b'{"messages": ['),
    ("bad JSON", b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}"),
    ("bad JSON", b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    ("bad JSON", b'{"a": ' + b'{"b": ' * 400 + b"1" + b"}" * 401),
    ("bad JSON", b'{"a": ' + b"7" * 5000 + b"}"),
    ("not an object", b"7"),
    ("not an object", b'["messages"]'),
]


@pytest.mark.parametrize(("reason", "line"), BAD_LINES)
@pytest.mark.parametrize("form", FORMS)
def test_a_bad_line_costs_itself_in_every_format(
    tmp_path: Path, form: str, reason: str, line: bytes
) -> None:
    paths = [tmp_path / "samples_x.jsonl"]
    paths[0].write_bytes(FORMS[form] + line + b"\n" + FORMS[form])
    if form == "batch input":
        paths.append(write(tmp_path / "said.jsonl", RECORDS["batch"]()))
    result = read(*paths)
    number = len(FORMS[form].splitlines()) + 1
    assert [(e.line, e.reason) for e in result.skipped if e.line == number] == [(number, reason)]
    assert result.carriers


def test_depth_counts_and_not_the_number_of_brackets(tmp_path: Path) -> None:
    many = {"model": "m", "note": [[]] * 2000, "prompt": "[" * 2000, "output": "{" * 2000}
    assert read(write(tmp_path / "in.jsonl", [many])).skipped == ()


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_a_line_over_the_limit_is_passed_over(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 400
    monkeypatch.setattr(jsonl_reader, "MOST_LINE_BYTES", limit)
    (one, two) = chat_records()
    # As long as the limit, and one more; blanks at the end do not count.
    for length, kept in ((limit - 1, 3), (limit, 3), (limit + 1, 2), (5 * limit, 2)):
        padded = {**one, "pad": ""}
        padded["pad"] = "x" * (length - len(jsonl([padded])) + 1)
        content = jsonl([one]) + jsonl([padded])[:-1] + b"\n" + jsonl([two])
        path = tmp_path / f"in{ending}"
        path.write_bytes(_packed(content, ending))
        result = read(path)
        assert len(result.carriers) == kept
        wanted = [(2, "over-long line")] if kept == 2 else []
        assert [(each.line, each.reason) for each in result.skipped] == wanted
        path.write_bytes(_packed(jsonl([one]) + b" " * length + b"\n" + jsonl([two]), ending))
        assert (len(read(path).carriers), read(path).skipped) == (2, ())


def _packed(content: bytes, ending: str) -> bytes:
    pack: dict[str, Callable[[bytes], bytes]] = {
        ".jsonl": bytes, ".jsonl.gz": gzip.compress, ".jsonl.zst": zstandard.compress,
    }  # fmt: skip
    return pack[ending](content)


# What `ru_maxrss` says of a new process counts the one that started it.
MEASURED = """
import sys
from pathlib import Path
from probing.carriers.reading import read_carriers
result = read_carriers(sys.argv[1:])
print(len(result.carriers), *[(each.line, each.reason) for each in result.skipped])
status = Path("/proc/self/status").read_text().splitlines()
print(*[line.split()[1] for line in status if line.startswith("VmHWM")])
"""


def test_a_line_of_a_hundred_megabytes_is_passed_over_in_bounded_memory(tmp_path: Path) -> None:
    (one, two) = chat_records()
    path = tmp_path / "in.jsonl"
    with path.open("wb") as file:
        file.write(jsonl([one]))
        file.write(b'{"messages": "')
        for _ in range(100):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n' + jsonl([two]))
    command = [sys.executable, "-c", MEASURED, str(path)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    found, peak_kb = said.splitlines()
    assert found == "2 (2, 'over-long line')"
    assert 10_000 < int(peak_kb) < 500_000


def test_an_empty_file_of_every_ending_is_refused(tmp_path: Path) -> None:
    for ending in ENDINGS:
        path = tmp_path / f"in{ending}"
        path.write_bytes(b"")
        with pytest.raises(UnreadableInput, match="is empty"):
            read_carriers([str(path)])
    for pack in (gzip.compress, zstandard.compress):
        (tmp_path / "in.gz").write_bytes(pack(b""))
        with pytest.raises(UnreadableInput, match="is empty"):
            read_carriers([str(tmp_path / "in.gz")])


@given(st.lists(st.tuples(st.text(max_size=2), st.integers(1, 2**39)), max_size=60))
def test_where_an_id_stood_first_is_remembered(rows: list[tuple[str, int]]) -> None:
    seen, slowly = Seen(slots=2), dict[str, Stood]()
    for number, (name, line) in enumerate(rows):
        name = "".join(char if char.isascii() else "x" for char in name)
        here = Stood(number, line)
        assert seen.first(name, here) == slowly.get(name)
        slowly.setdefault(name, here)


def test_the_table_of_ids_grows_and_forgets_none() -> None:
    seen, ids = Seen(slots=2), [f"file:{n}" for n in range(3000)]
    assert all(seen.first(name, Stood(n, n + 1)) is None for n, name in enumerate(ids))
    assert [seen.first(name, Stood(0, 1)) for name in ids] == [Stood(n, n + 1) for n in range(3000)]
