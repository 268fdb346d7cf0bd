"""Where logs lie: folders, globs and URLs; nothing in them is passed over in silence."""

import errno
import gzip
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pytest
import zstandard
from logs import (
    ENDINGS,
    RECORDS,
    Record,
    batch_input,
    batch_output,
    carrier_records,
    chat_records,
    jsonl,
    lm_eval_records,
    pair_records,
    plainly,
    read,
    write,
)

from probing.carriers.readers.files import LOOKED_AT
from probing.carriers.readers.sources import Source, sources
from probing.carriers.reading import OTHER_FILE, PASSED_OVER, CarrierStream, read_carriers
from probing.errors import NoCarriersLeft, RecordFault, UnreadableInput
from probing.settings import Inputs


@pytest.fixture
def memory() -> Iterator[str]:
    """A folder of fsspec's file system in memory."""
    system = fsspec.filesystem("memory")
    yield "memory://logs"
    system.rm("/logs", recursive=True) if system.exists("/logs") else None


def put(url: str, content: bytes) -> str:
    with fsspec.open(url, "wb") as file:
        file.write(content)
    return url


def tree(root: Path) -> list[Path]:
    """One log of every ending, in folders of folders."""
    places = ("", "a", "a/b", "c.jsonl")
    paths = [
        root / place / f"in{n}{ending}"
        for (n, ending), place in zip(enumerate(ENDINGS), places, strict=True)
    ]
    for n, path in enumerate(paths):
        write(path, carrier_records(f"m{n}-"))
    return paths


def places(given: str | Path) -> list[str]:
    return [each.place for each in sources(str(given)).sources]


def test_a_folder_is_read_with_all_below_it(tmp_path: Path) -> None:
    paths = sorted(map(str, tree(tmp_path)))
    assert places(tmp_path) == paths
    assert places(f"{tmp_path}/") == paths
    assert places(f"file://{tmp_path}") == [f"file://{path}" for path in paths]
    result = read(tmp_path)
    assert len(result.carriers) == 2 * len(paths)
    assert [each.file for each in result.files] == paths
    assert result.skipped == ()


EVERY = ["a/in1.jsonl.gz", "a/b/in2.jsonl.zst", "c.jsonl/in3.parquet", "in0.jsonl"]


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("*.jsonl", ["c.jsonl/in3.parquet", "in0.jsonl"]),
        (
            "**/*.jsonl*",
            ["a/in1.jsonl.gz", "a/b/in2.jsonl.zst", "c.jsonl/in3.parquet", "in0.jsonl"],
        ),
        ("**", ["a/b/in2.jsonl.zst", "a/in1.jsonl.gz", "c.jsonl/in3.parquet", "in0.jsonl"]),
        ("a/*", ["a/b/in2.jsonl.zst", "a/in1.jsonl.gz"]),
        ("in[0-9].*", ["in0.jsonl"]),
        ("?/b", ["a/b/in2.jsonl.zst"]),
    ],
)
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_globs_stand_for_files_and_for_folders_with_all_below_them(
    tmp_path: Path, pattern: str, wanted: list[str], scheme: str
) -> None:
    tree(tmp_path)
    found = places(f"{scheme}{tmp_path}/{pattern}")
    assert found == sorted(f"{scheme}{tmp_path}/{each}" for each in wanted)
    assert not any(each.given for each in sources(f"{scheme}{tmp_path}/{pattern}").sources)


def test_a_name_with_magic_in_it_is_a_name_first(tmp_path: Path) -> None:
    path = write(tmp_path / "run[1]" / "in[0]*.jsonl", chat_records())
    assert len(read(path).carriers) == 2
    assert len(read(path.parent).carriers) == 2
    assert len(read(f"file://{path}").carriers) == 2
    samples = write(tmp_path / "run[1]" / "samples_x_d.jsonl", lm_eval_records())
    (path.parent / "results_d.json").write_text('{"model_name": "org/m"}')
    assert read(samples).carriers[0].generator == "org/m"


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("form", RECORDS)
def test_urls_give_what_files_do(tmp_path: Path, memory: str, form: str, ending: str) -> None:
    path = write(tmp_path / f"samples_x{ending}", RECORDS[form]())
    wanted = read(path)
    for url in (f"file://{path}", put(f"{memory}/samples_x{ending}", path.read_bytes())):
        result = read(url)
        assert len(result.carriers) == len(wanted.carriers) > 0
        for one, other in zip(result.carriers, wanted.carriers, strict=True):
            assert one.response == other.response
            assert one.problem_id == other.problem_id
            assert one.carrier_id == other.carrier_id.replace(str(path), url)


def test_remote_folders_globs_and_what_lies_beside(memory: str) -> None:
    put(f"{memory}/run/samples_x_d.jsonl", jsonl(lm_eval_records()))
    put(f"{memory}/run/results_d.json", b'{"model_name": "org/m"}')
    put(f"{memory}/run/README.md", b"notes")
    put(f"{memory}/other/in.jsonl", jsonl(chat_records()))
    result = read(memory)
    assert [each.generator for each in result.carriers] == ["m", "m", "org/m", "org/m"]
    over = [each for each in result.skipped if each.reason == PASSED_OVER]
    assert [(each.file, each.line) for each in over] == [(memory, 0)]
    assert "README.md" in over[0].detail
    assert "results_d.json" in over[0].detail
    assert len(read(f"{memory}/*/*.jsonl").carriers) == 4
    assert len(read(f"{memory}/o*").carriers) == 2
    with pytest.raises(UnreadableInput, match="check the path"):
        read(f"{memory}/absent.jsonl")
    with pytest.raises(UnreadableInput, match="stands for no file"):
        read(f"{memory}/*.csv")
    with pytest.raises(UnreadableInput, match=r"cannot read 'nosuch://x'.*check the path"):
        read("nosuch://x")


def test_what_a_file_system_raises_is_named(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(f"{memory}/in.jsonl", jsonl(chat_records()))

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("token expired")

    system = type(fsspec.filesystem("memory"))
    with monkeypatch.context() as patch:
        patch.setattr(system, "isdir", refuse)
        with pytest.raises(UnreadableInput, match="token expired"):
            read(f"{memory}/in.jsonl")
    monkeypatch.setattr(system, "_open", refuse)
    with pytest.raises(UnreadableInput, match="RuntimeError: token expired"):
        read(f"{memory}/in.jsonl")


FOREIGN: dict[str, tuple[bytes, str]] = {
    "table.json": (b'{\n  "a": 1\n}\n', "over several lines"),
    "one.json": (b'{"a": 1}\n', "must look like one of"),
    "array.json": (b'[{"a": 1}]', "JSON array.*jq"),
    "pretty.json": (b'[\n  {"a": 1}\n]', "JSON array"),
    "empty.jsonl": (b"", "is empty"),
    "blank.jsonl.gz": (b"\n \n", "is empty"),
    "text.jsonl": (b"hello", "of no known format"),
    "wide.jsonl": ('{"a": 1}\n'.encode("utf-16"), "looks like UTF-16.*iconv"),
    "bare.jsonl": ('{"a": 1}\n'.encode("utf-16-be"), "looks like UTF-16.*iconv"),
    "cut.jsonl.gz": (b"\x1f\x8b\x08", "cannot read"),
    "bad.parquet": (b"PAR1 no more", "cannot be read as Parquet"),
    "bad.eval": (b"PK\x03\x04 no more", "damaged zip"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file_in_a_folder_is_named_and_the_others_are_read(
    tmp_path: Path, name: str
) -> None:
    content, message = FOREIGN[name]
    write(tmp_path / "in.jsonl", chat_records())
    path = tmp_path / name
    path.write_bytes(content)
    for given in (tmp_path, f"{tmp_path}/*"):
        result = read(given)
        assert len(result.carriers) == 2
        (skipped,) = result.skipped
        assert (skipped.file, skipped.line, skipped.reason) == (str(path), 0, OTHER_FILE)
        with pytest.raises(RecordFault, match=OTHER_FILE):
            read_carriers([str(given)], strict=True)
    with pytest.raises(UnreadableInput, match=f"(?s){message}"):
        read(path)


def lines_of(records: list[Record], *, first: str, between: str, last: str) -> bytes:
    return f"{first}{between.join(json.dumps(each) for each in records)}{last}".encode()


@pytest.mark.parametrize(
    "packed", [bytes, gzip.compress, zstandard.compress], ids=["", "gz", "zst"]
)
@pytest.mark.parametrize(
    ("first", "between", "last"),
    [
        ("[", ",", "]"),
        ("[", ",\n", "]"),
        ("[\n", ",\n", "\n]\n"),
        ("[\n\n  ", ",\n  ", "\n]"),
        ("[ ", "\n,", " ]"),
        ("\ufeff\n[\r\n", ",\r\n", "\r\n]\r\n"),
    ],
)
@pytest.mark.parametrize("form", RECORDS)
def test_an_array_is_refused_whole_however_it_is_laid_out(
    tmp_path: Path,
    form: str,
    first: str,
    between: str,
    last: str,
    packed: Callable[[bytes], bytes],
) -> None:
    path = tmp_path / "in.json"
    records = RECORDS[form]()
    path.write_bytes(packed(lines_of(records, first=first, between=between, last=last)))
    with pytest.raises(UnreadableInput, match=r"a JSON array: .*jq -c '\.\[\]'"):
        read(path, generator="m")
    # An object a line is what the message asks for.
    path.write_bytes(packed(lines_of(records, first="", between="\n", last="\n")))
    assert read(path, generator="m").rows_read == len(records)


@pytest.mark.parametrize(("name", "separator"), [("CSV", ","), ("TSV", "\t")])
def test_a_table_of_text_is_told_and_the_line_that_converts_it_does(
    tmp_path: Path, name: str, separator: str
) -> None:
    records = pair_records()
    # A cell of several lines, one of which looks like a record.
    records[0]["prompt"] = 'Sum\n{"a": 1}\n日本語 🙂'
    path, target = tmp_path / "in.json", tmp_path / "out.jsonl"
    pd.DataFrame(records).to_csv(path, sep=separator, index=False)
    with pytest.raises(UnreadableInput, match=f"it looks like {name}: ") as refused:
        read(path)
    (program,) = re.findall(r'`python -c "(.*)"`', str(refused.value))
    program = program.replace("'IN'", repr(str(path))).replace("'OUT.jsonl'", repr(str(target)))
    subprocess.run([sys.executable, "-c", program], check=True)
    wanted = read(write(tmp_path / "wanted.jsonl", records)).carriers
    assert [plainly(each) for each in read(target).carriers] == [plainly(each) for each in wanted]


def test_a_heading_above_records_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"run 7, of today\n" + jsonl(chat_records()))
    result = read(path)
    assert [(each.line, each.reason) for each in result.skipped] == [(1, "bad JSON")]
    assert len(result.carriers) == 2


def test_files_called_nothing_like_a_log_are_counted_and_named(tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", chat_records())
    for n in range(20):
        (tmp_path / f"picture{n:02}.png").write_bytes(b"x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "README").write_text("notes")
    result = read(tmp_path)
    (skipped,) = result.skipped
    assert (skipped.file, skipped.line, skipped.reason) == (str(tmp_path), 0, PASSED_OVER)
    assert skipped.detail.startswith("21 files")
    assert "picture00.png" in skipped.detail
    assert skipped.detail.endswith("and 13 more")
    # Every folder has such files: they are no fault.
    assert len(read_carriers([str(tmp_path)], strict=True).carriers) == 2
    (tmp_path / "in.jsonl").unlink()
    with pytest.raises(UnreadableInput, match=r"got none among .*picture00\.png"):
        read(tmp_path)


def test_a_zip_that_is_no_log_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.eval", "w") as packed:
        packed.writestr("table.csv", "a,b")
    with pytest.raises(UnreadableInput, match="is a zip, and no log of Inspect is in it"):
        read(tmp_path / "in.eval")


def test_records_that_say_version_and_eval_are_no_log_of_inspect(tmp_path: Path) -> None:
    rows = [{"version": 1, "split": "eval", **each} for each in chat_records()]
    assert len(read(write(tmp_path / "in.jsonl", rows)).carriers) == 2


def test_results_beside_samples_are_no_fault_and_others_are(tmp_path: Path) -> None:
    write(tmp_path / "a" / "samples_x_d.jsonl", lm_eval_records())
    (tmp_path / "a" / "results_d.json").write_text('{\n"model_name": "org/m"\n}')
    write(tmp_path / "b" / "in.jsonl", chat_records())
    (tmp_path / "b" / "results_d.json").write_text('{\n"model_name": "org/m"\n}')
    reasons = {each.file: each.reason for each in read(tmp_path).skipped if not each.line}
    assert reasons == {
        str(tmp_path): PASSED_OVER,
        str(tmp_path / "b" / "results_d.json"): OTHER_FILE,
    }
    result = read_carriers([str(tmp_path / "a")], strict=True)
    assert {each.generator for each in result.carriers} == {"org/m"}


def test_links_are_followed_once_and_those_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    root = tmp_path / "logs"
    write(tmp_path / "elsewhere" / "in.jsonl", chat_records())
    root.mkdir()
    (root / "inside").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    (root / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    (root / "linked.jsonl").symlink_to(tmp_path / "elsewhere" / "in.jsonl")
    result = read(root)
    # The second way to one file says the same ids.
    assert len(result.carriers) == 2
    reasons = {(each.file, each.line): each.reason for each in result.skipped}
    assert reasons[str(root / "gone.jsonl"), 0] == OTHER_FILE
    assert sorted(set(reasons.values())) == ["duplicate id", OTHER_FILE]
    lost = [each.file for each in read(f"{root}/*").skipped if each.reason == OTHER_FILE]
    assert str(root / "gone.jsonl") in lost
    with pytest.raises(UnreadableInput, match="No such file"):
        read(root / "gone.jsonl")


def test_a_pipe_is_refused_since_it_can_be_read_only_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    write(tmp_path / "in.jsonl", chat_records())
    with pytest.raises(UnreadableInput, match="a pipe can be read only once"):
        read(tmp_path / "pipe.jsonl")
    assert [each.file for each in read(tmp_path).skipped] == [str(tmp_path / "pipe.jsonl")]


def test_what_may_not_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "in.jsonl", chat_records())
    path = write(tmp_path / "shut.jsonl", chat_records())
    opened = Source.open

    def refuse(source: Source) -> Any:
        if source.name == "shut.jsonl":
            raise PermissionError(errno.EACCES, "Permission denied", source.place)
        return opened(source)

    monkeypatch.setattr(Source, "open", refuse)
    (skipped,) = read(tmp_path).skipped
    assert (skipped.file, skipped.reason) == (str(path), OTHER_FILE)
    assert "Permission denied" in skipped.detail
    with pytest.raises(UnreadableInput, match="Permission denied"):
        read(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_that_goes_between_telling_and_reading_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    write(tmp_path / "in.jsonl", chat_records())
    path = write(tmp_path / f"gone{ending}", chat_records("other"))
    opened, times = Source.open, []

    def vanish(source: Source) -> Any:
        times.append(source.name)
        # Its start, its head and its first records are looked at before.
        if source.name == path.name and times.count(path.name) > 3:
            raise FileNotFoundError(errno.ENOENT, "No such file", source.place)
        return opened(source)

    monkeypatch.setattr(Source, "open", vanish)
    found = list(CarrierStream([str(tmp_path)]))
    assert len(found) == 3
    assert [each.reason for each in found if hasattr(each, "reason")] == [OTHER_FILE]


def test_a_folder_that_may_not_be_looked_into_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in.jsonl", chat_records())
    shut = tmp_path / "shut"
    write(shut / "in.jsonl", chat_records())
    scan = os.scandir

    def refuse(place: Any) -> Any:
        if str(place) == str(shut):
            raise PermissionError(errno.EACCES, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", refuse)
    (skipped,) = read(tmp_path).skipped
    assert (skipped.file, skipped.reason) == (str(shut), OTHER_FILE)


def test_a_name_that_is_no_unicode_has_an_id_all_the_same(tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.jsonl")
    Path(os.fsdecode(path)).write_bytes(jsonl(chat_records()))
    kept = read(tmp_path).carriers
    assert [each.carrier_id.endswith(f":{n}") for n, each in enumerate(kept, 1)] == [True, True]


def test_many_files_are_not_held_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(30):
        write(tmp_path / f"in{n}.jsonl", chat_records())
    opened: list[Any] = []
    plain = Source.open

    def remember(source: Source) -> Any:
        assert sum(not file.closed for file in opened) <= 1
        opened.append(plain(source))
        return opened[-1]

    monkeypatch.setattr(Source, "open", remember)
    assert len(read(tmp_path).carriers) == 60
    assert all(file.closed for file in opened)


@pytest.mark.parametrize("bad", [0, LOOKED_AT - 1, LOOKED_AT, 3 * LOOKED_AT])
def test_damaged_lines_first_do_not_hide_the_format(tmp_path: Path, bad: int) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"oops\n' * bad + jsonl(chat_records()))
    result = read(path)
    assert (len(result.carriers), len(result.skipped)) == (2, bad)


def test_a_batch_in_a_folder_is_joined_whatever_its_files_are_called(tmp_path: Path) -> None:
    write(tmp_path / "z" / "asked.jsonl.gz", batch_input())
    write(tmp_path / "a.parquet", batch_output())
    assert len(read(tmp_path).carriers) == 2


def test_ids_are_unique_over_formats_that_make_them_and_those_that_have_them(
    tmp_path: Path,
) -> None:
    chat = write(tmp_path / "in.jsonl", chat_records())
    made = read(chat).carriers[0].carrier_id
    again = write(tmp_path / "carriers.jsonl", [{**carrier_records()[0], "carrier_id": made}])
    result = read(chat, again)
    assert [each.reason for each in result.skipped] == ["duplicate id"]
    assert f"{chat}:1" in result.skipped[0].detail


def test_nothing_usable_says_what_was_first_wrong(tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", [{"messages": [{"role": "user", "content": "x"}]}])
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(NoCarriersLeft, match=r"of 1 records .*: .*in\.jsonl:1: no resp"):
        read_carriers([str(tmp_path)], inputs=Inputs(generator="m"))
