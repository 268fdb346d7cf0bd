"""Logs of Inspect, through its library, against a plain reading of the same parts."""

import gzip
import json
import os
import sys
from pathlib import Path

import fsspec
import pytest
import zstandard
from inspect_plain import GOLDEN, LOGS, expected, placeless, samples
from logs import plainly, read
from packed import pack, parts, places

from probing.carriers.reading import OTHER_FILE, read_carriers
from probing.errors import MissingPackage, NoCarriersLeft, RecordFault, UnreadableInput
from probing.vocabulary import Template

pytestmark = pytest.mark.usefixtures("offline")


@pytest.mark.parametrize("name", GOLDEN)
def test_samples_are_what_the_log_says(name: str) -> None:
    result = read(LOGS / name)
    task = "local" if name == "hf.eval" else "shapes"
    every, skipped = {}, {}
    for line, sample in enumerate(samples(LOGS / name), start=1):
        if not sample["output"]["choices"]:
            skipped[line] = "no response"
        elif "data:image" in json.dumps(sample["messages"]):
            skipped[line] = "not only text"
        else:
            every[line] = sample
    assert {each.line: each.reason for each in result.skipped} == skipped
    place = os.path.relpath(LOGS / name)
    assert [each.carrier_id for each in result.carriers] == [f"{place}:{n}" for n in every]
    for carrier, sample in zip(result.carriers, every.values(), strict=True):
        said = plainly(carrier)
        beside = said.pop("extra")
        assert said == expected(sample, task)
        assert (carrier.problem_id, carrier.template) == (str(sample["id"]), Template.CHAT)
        assert (beside["epoch"], beside["metadata"]) == (sample["epoch"], sample["metadata"])
        assert {name: repr(score["value"]) for name, score in beside["scores"].items()} == {
            name: repr(score["value"]) for name, score in sample["scores"].items()
        }
    assert every
    assert bool(skipped) == (name == "mock.eval")


def test_epochs_are_responses_to_one_problem() -> None:
    kept = read(LOGS / "mock.eval").carriers
    for one, other in zip(kept[::2], kept[1::2], strict=True):
        assert one.problem_id == other.problem_id
        assert (one.extra["epoch"], other.extra["epoch"]) == (1, 2)
    assert len({each.carrier_id for each in kept}) == len(kept) == 10


def test_a_log_gives_the_same_carriers_in_either_form(tmp_path: Path) -> None:
    from inspect_ai.log import read_eval_log, write_eval_log

    for name in GOLDEN:
        wanted = read(LOGS / name)
        for form in ("eval", "json"):
            path = tmp_path / f"twin.{form}"
            write_eval_log(read_eval_log(str(LOGS / name)), str(path))
            found = read(path)
            assert placeless(found.carriers) == placeless(wanted.carriers)
            assert [(each.line, each.detail) for each in found.skipped] == [
                (each.line, each.detail) for each in wanted.skipped
            ]
    # Another run of the same questions, logged as the other form.
    fewer = placeless(read(LOGS / "mock.json").carriers)
    assert placeless(read(LOGS / "mock.eval").carriers)[: len(fewer)] == fewer


def test_a_log_is_told_by_its_content_wherever_it_lies(tmp_path: Path) -> None:
    for form in ("eval", "json"):
        content = (LOGS / f"mock.{form}").read_bytes()
        wanted = placeless(read(LOGS / f"mock.{form}").carriers)
        (tmp_path / f"{form}.log").write_bytes(content)
        remote = f"memory://inspect/{form}.log"
        with fsspec.open(remote, "wb") as file:
            file.write(content)
        for place in (tmp_path / f"{form}.log", f"file://{tmp_path}/{form}.log", remote):
            for asked in ("auto", "inspect"):
                result = read(place, format=asked)
                assert placeless(result.carriers) == wanted
                assert {each.format for each in result.files} == {"inspect"}
    for ending, squeeze in ((".gz", gzip.compress), (".zst", zstandard.compress)):
        squeezed = tmp_path / f"mock.json{ending}"
        squeezed.write_bytes(squeeze(content))
        assert placeless(read(squeezed).carriers) == wanted
        (tmp_path / f"mock.eval{ending}").write_bytes(squeeze((LOGS / "mock.eval").read_bytes()))
        with pytest.raises(UnreadableInput, match=r"is compressed.*unpack it first"):
            read(tmp_path / f"mock.eval{ending}")


def test_a_log_that_was_written_again_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "mock.json"
    content = (LOGS / "mock.json").read_text()
    for said in ("eight", "nine"):
        path.write_text(content.replace("2 + 5 = 7, so", f"{said}, so"))
        assert read(path).carriers[0].response == f"{said}, so \\boxed{{7}}"


def test_a_log_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    for name in GOLDEN:
        with pytest.raises(MissingPackage, match=r"pip install 'ssd-probing\[inspect\]'"):
            read(LOGS / name)


# Damage


def test_a_damaged_sample_costs_itself(tmp_path: Path) -> None:
    path = tmp_path / "mock.eval"
    before = read(LOGS / "mock.eval")
    lines = {
        f"samples/{each['id']}_epoch_{each['epoch']}.json": line
        for line, each in enumerate(samples(LOGS / "mock.eval"), start=1)
    }
    for name, (start, stop) in places(LOGS / "mock.eval").items():
        content = bytearray((LOGS / "mock.eval").read_bytes())
        content[(start + stop) // 2] ^= 4
        path.write_bytes(content)
        if name == "header.json":
            with pytest.raises(UnreadableInput, match="cannot be read as a log of Inspect"):
                read(path)
            continue
        result = read(path)
        line = lines.get(name)
        wanted = [each for each in before.carriers if each.carrier_id.split(":")[-1] != str(line)]
        assert placeless(result.carriers) == placeless(tuple(wanted))
        named = {each.line: each.reason for each in before.skipped}
        assert {each.line: each.reason for each in result.skipped} == (
            named | ({line: "damaged sample"} if line else {})
        )
        if line:
            (fault,) = [each for each in result.skipped if each.line == line]
            assert f"{name[8:-13]!r} of epoch {name[-6]}" in fault.detail


def test_a_log_cut_anywhere_is_refused_by_name_and_costs_no_other(tmp_path: Path) -> None:
    good = tmp_path / "good.eval"
    good.write_bytes((LOGS / "hf.eval").read_bytes())
    for name in GOLDEN:
        content, path = (LOGS / name).read_bytes(), tmp_path / f"cut{Path(name).suffix}"
        # A log in text is told by its start.
        for cut in range(3000, len(content), len(content) // 12):
            path.write_bytes(content[:cut])
            with pytest.raises(UnreadableInput, match=f"{path.name}.*(damaged|cannot be read)"):
                read(path)
            result = read(tmp_path)
            assert len(result.carriers) == 2
            assert [(each.file, each.reason) for each in result.skipped] == [
                (str(path), OTHER_FILE)
            ]
        path.unlink()


def test_a_run_that_was_interrupted_gives_what_it_had_and_says_what_is_missing(
    tmp_path: Path,
) -> None:
    texts = parts(LOGS / "mock.eval")
    for name in ("header.json", "summaries.json", "reductions.json"):
        del texts[name]
    before = read(LOGS / "mock.eval").carriers
    gone = ("plain", "turns", "4")
    late = {f"samples/{name}_epoch_2.json" for name in gone}
    path = pack(tmp_path / "a.eval", {name: texts[name] for name in texts if name not in late})
    result = read(path)
    had = [each for each in before if each.problem_id not in gone or each.extra["epoch"] == 1]
    assert len(had) == len(before) - 3
    assert [each.response for each in result.carriers] == [each.response for each in had]
    (fault,) = [each for each in result.skipped if each.reason == "missing samples"]
    assert fault.line == result.rows_read == 12
    assert fault.detail == (
        "3 of 14 samples are not in the log of a run with status started: "
        "'plain' of epoch 2, 'turns' of epoch 2, '4' of epoch 2"
    )
    half = parts(LOGS / "hf.eval")
    del half["samples/plain_epoch_1.json"]
    with pytest.raises(RecordFault, match=r"1 of 2 samples .* status success: 'plain' of epoch 1"):
        read_carriers([str(pack(tmp_path / "half.eval", half))], strict=True)
    none = {name: text for name, text in texts.items() if not name.startswith("samples/")}
    with pytest.raises(NoCarriersLeft, match=r"missing samples: 14 of 14.* and 6 more"):
        read(pack(tmp_path / "none.eval", none))
