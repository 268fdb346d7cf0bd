"""Datasets on disk, saved by their own library: as rows of Parquet, shard by shard."""

import base64
import datetime
import functools
import io
import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs import RECORDS, Record, chat_records, check_nothing_lost, parquet, plainly, read, write

from probing.carriers.readers.parquet import BATCH_ROWS
from probing.carriers.reading import OTHER_FILE, PASSED_OVER, read_carriers
from probing.carriers.record import ReadResult
from probing.errors import MissingPackage, NoCarriersLeft, RecordFault, UnreadableInput

pytestmark = pytest.mark.usefixtures("offline")


@functools.cache
def hub() -> Any:
    """The library, loaded where a test of it runs and not with all of them."""
    import datasets

    datasets.disable_progress_bars()
    return datasets


def rows(count: int) -> list[Record]:
    return [{"prompt": f"q{n}", "completion": f"r{n}", "model": "m"} for n in range(count)]


def save(folder: Path, records: list[Record], **how: Any) -> Path:
    hub().Dataset.from_list(records).save_to_disk(str(folder), **how)
    return folder


def responses(result: ReadResult) -> list[str]:
    return [each.response for each in result.carriers]


def said(result: ReadResult, place: Path) -> list[tuple[str, str, Record]]:
    """Each carrier without its place, by whose name a task of lm-eval is told."""
    return [
        (
            each.carrier_id.replace(str(place), "FILE"),
            each.problem_id,
            {**plainly(each), "source": None},
        )
        for each in result.carriers
    ]


@pytest.mark.parametrize("form", RECORDS)
def test_a_set_gives_what_a_table_of_the_same_rows_does(tmp_path: Path, form: str) -> None:
    records = RECORDS[form]()
    folder = save(tmp_path / "set", records, num_shards=2)
    table = tmp_path / "in.parquet"
    table.write_bytes(parquet(records))
    assert said(read(folder), folder) == said(read(table), table)
    assert len(read(folder).carriers) == 2
    assert read(folder).files[0].format == read(table).files[0].format
    name = "chat" if form == "pair" else form
    assert read(folder, format=name) == read(folder)


@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 12))
def test_shards_and_batches_are_read_in_order_and_whole(
    tmp_path_factory: pytest.TempPathFactory, count: int, batch: int, shards: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub().config, "DEFAULT_MAX_BATCH_SIZE", batch)
        folder = save(
            tmp_path_factory.mktemp("sets") / "set", rows(count), num_shards=min(shards, count)
        )
    result = read(folder)
    assert responses(result) == [f"r{n}" for n in range(count)]
    assert [each.carrier_id for each in result.carriers] == [
        f"{folder}:{n + 1}" for n in range(count)
    ]
    assert result.skipped == ()


def test_a_batch_of_many_rows_is_read_whole(tmp_path: Path) -> None:
    count = 3 * BATCH_ROWS + 1
    assert responses(read(save(tmp_path / "set", rows(count)))) == [f"r{n}" for n in range(count)]


def test_a_set_is_read_the_same_whatever_it_was_last_used_as(tmp_path: Path) -> None:
    made = hub().Dataset.from_list([{**each, "ids": [1, 2]} for each in chat_records()])
    wanted = None
    for form in (None, "numpy", "torch", "pandas", "arrow"):
        for columns in (None, ["model"]):
            used = made.with_format(form, columns=columns)
            folder = tmp_path / f"{form}{bool(columns)}"
            used.save_to_disk(str(folder))
            found = said(read(folder), folder)
            wanted = wanted or found
            assert found == wanted
    assert [each["response"] for _, _, each in wanted or []] == ["so 0", "so 1"]
    assert [each["extra"]["ids"] for _, _, each in wanted or []] == [[1, 2]] * 2


def test_what_was_chosen_of_a_set_is_read(tmp_path: Path) -> None:
    made = hub().Dataset.from_list(rows(6))
    made.select([4, 1, 3]).save_to_disk(str(tmp_path / "some"))
    assert responses(read(tmp_path / "some")) == ["r4", "r1", "r3"]


def test_columns_of_any_kind_stand_beside_the_carrier(tmp_path: Path) -> None:
    features = hub().Features(
        {
            "prompt": hub().Value("string"),
            "completion": hub().Value("string"),
            "model": hub().Value("string"),
            "vector": hub().Value("float16"),
            "grid": hub().Array2D((2, 2), "int32"),
            "label": hub().ClassLabel(names=["no", "yes"]),
            "day": hub().Value("date32"),
            "note": {"n": hub().Value("int8"), "of": hub().List(hub().Value("string"))},
            "any": hub().Json(),
            "many": hub().List(hub().Json()),
        }
    )
    beside: Record = {
        "vector": np.float16(0.5), "grid": np.arange(4, dtype=np.int32).reshape(2, 2), "label": 1,
        "day": datetime.date(2000, 1, 2), "note": {"n": 1, "of": ["a", "b"]},
        "any": {"a": [1, "b"]}, "many": [{"a": 1}, [2]],
    }  # fmt: skip
    records = [{**each, **beside} for each in rows(2)]
    made = hub().Dataset.from_dict(
        {name: [each[name] for each in records] for name in features}, features=features
    )
    made.save_to_disk(str(tmp_path / "set"))
    for carrier in read(tmp_path / "set").carriers:
        assert carrier.extra == {
            **beside, "vector": 0.5, "grid": [[0, 1], [2, 3]], "day": "2000-01-02", "model": "m",
        }  # fmt: skip


def test_a_picture_is_kept_as_bytes_and_never_taken_for_text(tmp_path: Path) -> None:
    from PIL import Image

    features = hub().Features(
        {**hub().Dataset.from_list(rows(1)).features, "picture": hub().Image()}
    )
    shown = [Image.new("RGB", (2, 2)), None]
    records = [{**each, "picture": one} for each, one in zip(rows(2), shown, strict=True)]
    made = hub().Dataset.from_list(records, features=features)
    made.save_to_disk(str(tmp_path / "set"))
    result = read(tmp_path / "set")
    assert responses(result) == ["r0", "r1"]
    kept = [each.extra.get("picture") for each in result.carriers]
    png = base64.b64decode(kept[0]["bytes"]["base64"])
    assert Image.open(io.BytesIO(png)).size == (2, 2)
    assert kept[1] is None


def test_a_folder_is_one_source_and_splits_are_each(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    splits = {"train": hub().Dataset.from_list(chat_records())}
    splits["test"] = hub().Dataset.from_list(rows(1))
    hub().DatasetDict(splits).save_to_disk(str(logs))
    train = logs / "train"
    for place in (train, f"{train}/", f"{tmp_path}/*/tr*", f"file://{train}"):
        result = read(place)
        assert responses(result) == ["so 0", "so 1"]
        (file,) = result.files
        assert file.file.removeprefix("file://").rstrip("/") == str(train)
        assert (file.format, result.skipped) == ("chat", ())
    write(logs / "in.jsonl", rows(2))
    for place in (tmp_path, logs):
        result = read(place)
        assert responses(result) == ["r0", "r1", "r0", "so 0", "so 1"]
        (over,) = result.skipped
        assert (over.reason, over.line) == (PASSED_OVER, 0)
        assert "dataset_dict.json" in over.detail


def test_a_set_behind_a_url_is_read(tmp_path: Path) -> None:
    wanted = read(save(tmp_path / "set", rows(5), num_shards=2))
    url = "memory:///sets/five"
    hub().Dataset.from_list(rows(5)).save_to_disk(url, num_shards=2)
    found = read(url)
    assert responses(found) == responses(wanted)
    assert [each.carrier_id for each in found.carriers] == [f"{url}:{n + 1}" for n in range(5)]


def test_a_set_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path / "set", rows(2))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingPackage, match=r"pip install 'ssd-probing\[datasets\]'"):
        read(folder)


# Damage


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three shards of three batches of two rows."""
    monkeypatch.setattr(hub().config, "DEFAULT_MAX_BATCH_SIZE", 2)
    return save(tmp_path / "logs" / "three", rows(18), num_shards=3)


def test_a_shard_cut_anywhere_costs_its_end_and_says_so(three: Path) -> None:
    shard = three / "data-00001-of-00003.arrow"
    content, found = shard.read_bytes(), set()
    first, last = [f"r{n}" for n in range(6)], [f"r{n}" for n in range(12, 18)]
    for cut in [*range(0, len(content), 40), *range(len(content) - 9, len(content))]:
        shard.write_bytes(content[:cut])
        result = read(three)
        kept = len(result.carriers) - 12
        found.add(kept)
        assert responses(result) == [*first, *[f"r{n}" for n in range(6, 6 + kept)], *last]
        (fault,) = result.skipped
        assert (fault.line, fault.reason) == (6 + kept + 1, "damaged file")
        assert shard.name in fault.detail
    assert found == {0, 2, 4, 6}
    shard.unlink()
    assert responses(read(three)) == [*first, *last]
    with pytest.raises(RecordFault, match=f"damaged file: .*{shard.name}"):
        read_carriers([str(three)], strict=True)


def test_bytes_that_changed_cost_no_other_shard(three: Path) -> None:
    """Nor is anything read that lies beyond the shard: that would end the process."""
    rng = random.Random(0)
    shard = three / "data-00002-of-00003.arrow"
    content, fates = shard.read_bytes(), set()
    others = [f"r{n}" for n in range(12)]
    for _ in range(100):
        changed = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        shard.write_bytes(changed)
        result = read_carriers([str(three)])
        check_nothing_lost(result)
        assert responses(result)[:12] == others
        fates |= {each.reason for each in result.skipped}
    assert {"damaged file", "wrong type"} <= fates


def test_text_that_is_no_unicode_costs_its_row(three: Path) -> None:
    path = three / "data-00002-of-00003.arrow"
    with pyarrow.ipc.open_stream(path.read_bytes()) as stream:
        schema, table = stream.schema, stream.read_all()
    texts = pyarrow.array([b"r12", b"\xff\xfe", b"r14", b"r15", b"r16", b"r17"], pyarrow.binary())
    bad = pyarrow.StringArray.from_buffers(6, *texts.buffers()[1:])
    place = schema.get_field_index("completion")
    with pyarrow.ipc.new_stream(str(path), schema) as writer:
        writer.write_table(table.set_column(place, schema.field(place), bad))
    result = read(three)
    assert responses(result) == [f"r{n}" for n in range(18) if n != 13]
    assert [(each.line, each.reason) for each in result.skipped] == [(14, "wrong type")]


STATES = [
    "",
    "{",
    "[]",
    "7",
    '{"_data_files": 7}',
    '{"_data_files": [{"name": "x"}]}',
    "[" * 99_999,
]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state[:20])
def test_a_folder_that_does_not_name_its_shards_is_refused(three: Path, state: str) -> None:
    (three / "state.json").write_text(state)
    with pytest.raises(UnreadableInput, match=r"three.*because of its state\.json.*save it again"):
        read(three)
    write(three.parent / "in.jsonl", rows(2))
    result = read(three.parent)
    assert responses(result) == ["r0", "r1"]
    assert [(each.file, each.reason) for each in result.skipped] == [(str(three), OTHER_FILE)]


def test_a_set_without_rows_or_without_shards(three: Path, tmp_path: Path) -> None:
    none = hub().Dataset.from_dict({"prompt": [], "completion": []})
    none.save_to_disk(str(tmp_path / "none"), num_shards=1)
    state = json.loads((three / "state.json").read_text())
    shutil.copytree(three, tmp_path / "nothing")
    (tmp_path / "nothing" / "state.json").write_text(json.dumps({**state, "_data_files": []}))
    for name in ("none", "nothing"):
        with pytest.raises(UnreadableInput, match=f"{name} is empty"):
            read(tmp_path / name)
    for shard in three.glob("*.arrow"):
        shard.unlink()
    with pytest.raises(NoCarriersLeft, match=r"of 3 records.*nothing more of data-00000-of-00003"):
        read(three)
