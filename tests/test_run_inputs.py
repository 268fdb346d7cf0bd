"""What a run keeps of its responses: the sample's table, the grading, what was left out."""

import dataclasses
import json
import logging
from pathlib import Path

import pandas as pd
import pytest
from interpreter import ROOT, in_new_interpreter
from tiny import TinyPair, tiny_adapter, tiny_pair
from tiny_runs import Recorder, record, scored, tiny_settings

import probing
from probing.cli.console import report_fault
from probing.errors import NoCarriersLeft
from probing.scoring.run import ScoreReport
from probing.settings import Grading, RunSettings, Sampling
from probing.store.manifest import Manifest, changes
from probing.store.reader import open_run

BAD = "{bad\n"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> TinyPair:
    return tiny_pair(tmp_path_factory.mktemp("pair"))


def settings_in(folder: Path, pair: TinyPair, *lines: str) -> RunSettings:
    """Of a run over a folder: a log of these lines, and a file beside it that is none."""
    logs = folder / "logs"
    logs.mkdir()
    (logs / "in.jsonl").write_text("".join(lines), encoding="utf-8")
    (logs / "notes.txt").write_text("x", encoding="utf-8")
    adapter = tiny_adapter(pair.baseline, folder / "lora")
    return tiny_settings(folder / "run.zarr", pair, adapter=adapter, carriers=logs)


GRADING = Grading(grader="exact", seconds=60.0)
SAMPLING = Sampling(
    carriers=3, by=("generator", "correct", "finish_reason"), max_response_tokens=50
)


@pytest.fixture(scope="module")
def settings(pair: TinyPair, tmp_path_factory: pytest.TempPathFactory) -> RunSettings:
    graded = {"gold": "7.0", "answer": "7", "finish_reason": "stop"}
    lines = [
        record(0, **graded), BAD, record(1), record(2, finish_reason="length"),
        record(3, response=""), record(4), record(5),
    ]  # fmt: skip
    plain = settings_in(tmp_path_factory.mktemp("run"), pair, *lines)
    return dataclasses.replace(plain, sampling=SAMPLING, grading=GRADING)


@pytest.fixture(scope="module")
def report(settings: RunSettings) -> ScoreReport:
    return scored(settings)


def test_a_run_keeps_the_table_of_its_sample(settings: RunSettings, report: ScoreReport) -> None:
    kept = open_run(settings.out).manifest
    assert kept.sample == report.cells
    assert len(report.cells) == 2 * 2 * 3
    assert sum(cell.taken for cell in report.cells) == 3
    assert Manifest.from_json(kept.to_json()) == dataclasses.replace(
        kept, settings=dataclasses.replace(kept.settings, out="")
    )
    table = probing.open_run(settings.out).sample
    assert table is not None
    assert list(table) == [*SAMPLING.by, "wanted", "available", "taken"]
    told = list(table.itertuples(index=False, name=None))
    assert told == [
        (*cell.labels, cell.wanted, cell.available, cell.taken) for cell in report.cells
    ]
    # As scored in Python, a complete run is opened with all of it.
    again = probing.score(settings)
    assert again.sample is not None
    pd.testing.assert_frame_equal(again.sample, table)


def test_runs_of_before_have_no_table_and_go_on() -> None:
    bundled = probing.open_run(ROOT / "cache" / "bundled.zarr")
    old = dataclasses.replace(bundled.manifest, sample=None)
    document = old.to_json()
    assert "sample" not in document
    assert Manifest.from_json(document).sample is None
    now = dataclasses.replace(old, sample=())
    assert changes(old, now) == []
    # What a run has kept is compared.
    assert changes(now, old) != []
    assert (bundled.sample is None) == (bundled.manifest.sample is None)


def test_what_scoring_leaves_out_is_named_by_file_and_line(
    settings: RunSettings, report: ScoreReport
) -> None:
    log = str(Path(settings.carriers[0]) / "in.jsonl")
    told = [(each.place, each.reason) for each in report.skipped]
    assert told == [
        (settings.carriers[0], "passed over"),
        (f"{log}:2", "bad JSON"),
        (f"{log}:5", "empty response"),
        (f"{log}:7", "over-long response"),
    ]
    assert report.skipped[-1].detail == "carrier c5: more than 50 tokens"
    assert open_run(settings.out).manifest.skipped == report.skipped


def test_files_are_counted_apart_from_records(
    settings: RunSettings, report: ScoreReport, caplog: pytest.LogCaptureFixture
) -> None:
    assert report.counts["records_read"] == 7
    assert report.counts["records_skipped"] == 3
    assert report.counts["files_left_out"] == 1
    with caplog.at_level(logging.WARNING, logger="probing.api"):
        probing.score(settings, progress=Recorder())
    log = str(Path(settings.carriers[0]) / "in.jsonl")
    assert f"3 records were skipped and 1 files left out, the first {log}:2: bad" in caplog.text
    assert ":0" not in caplog.text


def test_a_run_is_graded_as_its_settings_say_and_keeps_how(
    settings: RunSettings, report: ScoreReport
) -> None:
    run = open_run(settings.out)
    assert run.manifest.settings.grading == GRADING
    # 7 and 7.0 are one number, and two texts.
    labels = {cell.labels[1] for cell in report.cells if cell.available}
    assert labels == {"wrong", "unknown"}
    document = run.manifest.to_json()
    del document["settings"]["grading"]
    assert Manifest.from_json(document).settings.grading == Grading()


@pytest.mark.parametrize(
    ("lines", "limit", "wanted"),
    [
        ([BAD, record(1, response="")], 50, ["passed over", "bad JSON", "empty response"]),
        ([BAD, record(5)], 50, ["passed over", "bad JSON"]),
        ([BAD, record(1, template="raw", prompt_token_ids=[10**6], response_token_ids=[10**6])],
         50, ["passed over", "bad JSON", "ids outside the vocabulary"]),
    ],
    ids=["nothing read", "all too long", "nothing usable"],
)  # fmt: skip
def test_where_nothing_is_left_the_fault_has_what_was_left_out(
    tmp_path: Path,
    pair: TinyPair,
    capsys: pytest.CaptureFixture[str],
    lines: list[str],
    limit: int,
    wanted: list[str],
) -> None:
    plain = settings_in(tmp_path, pair, *lines)
    sampling = dataclasses.replace(plain.sampling, max_response_tokens=limit)
    with pytest.raises(NoCarriersLeft) as fault:
        scored(dataclasses.replace(plain, sampling=sampling))
    assert [each.reason for each in fault.value.skipped] == wanted
    report_fault(fault.value)
    *skips, last = capsys.readouterr().err.splitlines()
    assert [line.startswith("skipped ") for line in skips] == [True] * len(wanted)
    assert last == f"error: {fault.value}"


REFUSED = """
from probing.api import OpenRun

run = OpenRun(None)
import probing
for ask in (
    lambda: run.deltas(where=["x"]),
    lambda: run.events(where="kind"),
    lambda: run.verdict(where=3),
    lambda: run.examples(where=[("kind", "mixed")]),
    lambda: run.deltas(by=3),
    lambda: run.deltas(by=None),
):
    try:
        ask()
    except probing.UsageFault as fault:
        print(fault)
"""


def test_filters_and_groups_of_a_wrong_type_are_refused_in_words() -> None:
    said = in_new_interpreter(REFUSED).splitlines()
    got = ["['x']", "'kind'", "3", "[('kind', 'mixed')]", "3", "None"]
    assert [line.rpartition(", got ")[2] for line in said] == got
    rule = 'where takes a dict from stratum to label, as {"correct": "correct"}'
    assert all(line.startswith(rule) for line in said[:4])
    assert all(line.startswith("by takes strata of kind, ") for line in said[4:])


def test_a_log_without_a_generator_says_what_a_run_file_needs(
    tmp_path: Path, pair: TinyPair
) -> None:
    line = json.dumps({"prompt": "Sum?", "response": "Let x be 3."}) + "\n"
    plain = settings_in(tmp_path, pair, line)
    with pytest.raises(NoCarriersLeft, match=r'generator = "NAME" under \[inputs\]'):
        scored(plain)
    named = dataclasses.replace(plain, inputs=probing.Inputs(generator="ssd"))
    assert scored(named).counts["carriers_sampled"] == 1
