"""What leaves a hostile run: the terminal, CSV and reports. Nothing in it runs, loads or hides."""

import csv
import dataclasses
import io
import json
from pathlib import Path

import browsing
import pandas as pd
import pytest
from hostile import (
    BIG,
    ESCAPES,
    FORMULAS,
    HOST,
    IMAGE,
    MODELS,
    TEXTS,
    Called,
    calling,
    write_hostile_run,
)
from labelled import RANKED, label_of
from pages_run import hidden
from playwright.sync_api import sync_playwright
from report_reading import MARKDOWN, asked_of, read

from probing.cli import EXIT_FAULT, EXIT_USAGE
from probing.reporting import carrier, export, labels, methods, tables
from probing.reporting.document import Report
from probing.reporting.examples import Order
from probing.reporting.report import report
from probing.reporting.report_html import html_text
from probing.reporting.report_markdown import markdown_text
from probing.reporting.text import LONGEST_TOKEN, line
from probing.settings import DEFAULT_ASSIGNMENT, Decoding, KindRule
from probing.store.labels import LabelFile
from probing.store.reader import Run, open_run
from probing.vocabulary import Stratum

STRATA = (Stratum.SUBJECT, Stratum.SOURCE, Stratum.GENERATOR)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_hostile_run(tmp_path_factory.mktemp("hostile") / "hostile.zarr").path)


@pytest.fixture(scope="module")
def run(path: str) -> Run:
    opened = open_run(path)
    file = LabelFile.beside(path)
    assert file is not None
    position = comparison(opened).iloc[3]
    given = [
        label_of(opened, position, who=f"={text}"[:60].strip() + ".", note=text)
        for text in TEXTS[-13:]
    ]
    file.append(tuple(dataclasses.replace(one, other=MODELS[1], order=RANKED) for one in given))
    return opened


def comparison(run: Run) -> pd.DataFrame:
    return tables.comparison_table(run, other=MODELS[1], decoding=Decoding(), rule=KindRule())


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Called:
    return calling(monkeypatch, capsys)


def joined(text: str) -> str:
    """Without the ends of lines: tables fold what is too long for a column."""
    return "".join(text.split())


@pytest.mark.parametrize("stratum", STRATA)
def test_the_summary_by_hostile_labels(called: Called, run: Run, stratum: Stratum) -> None:
    control = ("--other", MODELS[1], "--control", MODELS[2])
    text = called("summary", run.location, "--by", stratum, *control)
    assert line(MODELS[1]) in text
    assert r"\x1b[31mred\x1b]0;title\x07" in joined(text)


COMMANDS = {
    "summary": ("--table", "events"),
    "positions": (),
    "examples": ("--order", "random", "-n", "12", "--control", MODELS[2]),
    "verdict": ("--control", MODELS[2]),
    "labels": ("--table", "labels", "--other", MODELS[1]),
    "sweep": ("--threshold", "lock_top1", "--values", "0.5"),
    "multiverse": (),
    "verify": (),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_gives_the_terminal_a_command(called: Called, run: Run, command: str) -> None:
    text = called(command, run.location, *COMMANDS[command])
    assert len(text) < 200_000
    if command in ("examples", "verdict", "labels", "multiverse"):
        assert r"\x1b[31m" in text


def test_a_verdict_in_json_is_escaped_and_whole(called: Called, run: Run) -> None:
    text = called("verdict", run.location, "--json", "--other", MODELS[1])
    assert [*json.loads(text)["verdicts"]] == [MODELS[1]]


def test_a_token_of_a_megabyte_is_printed_short(called: Called, run: Run, tmp_path: Path) -> None:
    place = comparison(run).query("carrier_id == 'big'")["position"]
    told = called("examples", run.location, "--where", f"subject={TEXTS[0]}", "-n", "40")
    assert f"{len(BIG) + 1:,} characters" in told
    assert len(told) < 50_000
    called("positions", run.location, "--csv", str(tmp_path / "positions.csv"))
    found = pd.read_csv(tmp_path / "positions.csv", keep_default_na=False)
    own = found[(found["carrier_id"] == "big") & (found["model"] == MODELS[1])]
    assert own["position"].tolist() == sorted(place)
    assert own["token"].str.len().max() == len(BIG) + 1


@pytest.mark.parametrize("name", ["\x1b[31mgone\u202e.zarr", "[bold]gone[/nothing].zarr"])
def test_what_is_asked_for_is_told_as_text(called: Called, run: Run, name: str) -> None:
    assert line(name) in called("summary", name, code=EXIT_FAULT)
    assert line(name) in called("--debug", "summary", name, code=EXIT_FAULT)
    assert line(name) in called("summary", run.location, "--other", name, code=EXIT_USAGE)
    where = ("--where", f"subject={name}")
    assert line(name) in called("summary", run.location, *where, code=EXIT_USAGE)


def test_hostile_logs_are_read_and_told_as_text(
    called: Called, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    log, table = Path("=1+1 \x1b[31m[red]\u202e.jsonl"), Path("skipped.csv")
    good = {"problem_id": "p", "prompt": ESCAPES, "response": IMAGE, "template": "raw"}
    records = [{**good, "carrier_id": text, "generator": text} for text in TEXTS]
    lines = [json.dumps({**one, "extra": 1}) for one in records]
    log.write_text("\n".join([*lines, ESCAPES, '{"\x1b[31m": 1}', lines[0]]), encoding="utf-8")
    text = called("carriers", str(log), "--skipped", str(table))
    assert r"\u202egnp.exe" in text
    assert f"skipped {line(str(log))}" in text
    check_csv(table.read_text(encoding="utf-8"))


# CSV


def check_csv(text: str, frame: pd.DataFrame | None = None) -> None:
    """No cell begins as a formula; with the table, what is read back is what it holds."""
    csv.field_size_limit(2 * len(BIG))
    head, *rows = csv.reader(io.StringIO(text, newline=""))
    number = [] if frame is None else [pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes]
    for row in rows:
        assert len(row) == len(head)
        for place, cell in enumerate(row):
            begins = cell.lstrip(" ").startswith(export.FORMULA_STARTS)
            assert not begins or (number and number[place]), cell
    if frame is None:
        return
    assert len(rows) == len(frame)
    for place, name in enumerate(frame):
        if number[place]:
            continue
        for cell, value in zip((row[place] for row in rows), frame[name], strict=True):
            assert cell in ("" if pd.isna(value) else str(value), f"'{value}")
    back = pd.read_csv(io.StringIO(text, newline=""), keep_default_na=False, na_values=[""])
    assert len(back) == len(frame)
    for name, figures in frame.loc[:, number].items():
        if pd.api.types.is_float_dtype(figures.dtype):
            read_back = back[export.neutral(str(name))].astype(float)
            assert (read_back.to_numpy() == figures.to_numpy(dtype=float))[figures.notna()].all()


def test_every_table_leaves_as_csv_that_runs_nothing(run: Run) -> None:
    every = tables.all_comparisons(
        run, other=MODELS[1], control=MODELS[2], decoding=Decoding(), rule=KindRule()
    )
    own = every[MODELS[1]]
    ranked = tables.ranked_positions(own, by="top1_prob", order=Order.CHANGE)
    file = LabelFile.beside(run.location)
    assert file is not None
    labelled = labels.label_table(
        file.read().labels,
        own,
        fingerprint=run.fingerprint,
        other=MODELS[1],
        assignment=DEFAULT_ASSIGNMENT,
    )
    frames = {
        "deltas": tables.delta_tables(every, by=STRATA[:2], quantities=("js",)),
        "assignments": tables.assignment_tables(every, quantities=("js",)),
        "transitions": tables.transition_tables(every),
        "events": tables.event_tables(every),
        "positions": own,
        "list": tables.position_list(run, ranked, by="top1_prob", compared=every),
        "example": tables.example_table(run, 9, other=MODELS[1], decoding=Decoding()),
        "siblings": carrier.sibling_table(own, str(own["carrier_id"].iloc[0])),
        "models": methods.model_rows(run),
        "skipped": methods.skipped_rows(run),
        "sample": methods.sample_rows(run),
        "labels": labelled,
        "agreement": labels.agreement_table(labelled),
    }
    formulas = 0
    for name, frame in frames.items():
        assert len(frame), name
        text = export.csv_text(frame)
        check_csv(text, frame)
        formulas += sum(f"\"'{start[:2]}" in text for start in FORMULAS)
    assert formulas > len(FORMULAS)


# Reports


@pytest.fixture(scope="module")
def made(run: Run) -> Report:
    return report(run, asked=asked_of(run, examples=8), target=f"{IMAGE}.html")


@pytest.mark.browser
def test_a_report_runs_and_loads_nothing(made: Report, tmp_path: Path) -> None:
    target = tmp_path / "r.html"
    target.write_text(html_text(made), encoding="utf-8")
    assert hidden(target.read_text(encoding="utf-8")) <= {"\n", "\t"}
    with sync_playwright() as playwright:
        path = str(browsing.CHROMIUM) if browsing.CHROMIUM.exists() else None
        browser = playwright.chromium.launch(executable_path=path, args=list(browsing.FLAGS))
        page = browser.new_page()
        heard: list[str] = []
        for event in ("pageerror", "dialog", "console", "popup"):
            page.on(event, lambda what: heard.append(str(what)))
        page.on("request", lambda request: heard.append(request.url))
        page.goto(target.as_uri())
        assert page.evaluate("window.hacked") is None
        assert page.locator("script, img, iframe, object, link, base").count() == 0
        links = page.locator("[href]").evaluate_all("all => all.map(a => a.getAttribute('href'))")
        assert links
        assert all(link.startswith("#") for link in links)
        told = page.locator("body").inner_text()
        assert f"…({len(BIG) + 1:,}characters)" in joined(told)
        assert "a" * (2 * LONGEST_TOKEN) not in told
        assert MODELS[0].split("\u202e")[0] in told
        browser.close()
    assert heard == [target.as_uri()]


def test_a_report_in_markdown_has_nothing_live(made: Report) -> None:
    text = markdown_text(made)
    assert hidden(text) <= {"\n"}
    blocks = MARKDOWN.parse(text)
    kinds = {token.type for block in blocks for token in (block, *(block.children or ()))}
    assert not kinds & {"html_inline", "html_block", "link_open", "image", "code_block", "hr"}
    bare = [
        token.content
        for block in blocks
        for token in block.children or ()
        if token.type == "text" and (HOST in token.content or "$" in token.content)
    ]
    assert bare == []
    page, again = read(html_text(made)), read(MARKDOWN.render(text))
    assert [len(rows) for rows in again.rows] == [len(rows) for rows in page.rows]
    assert len(text) < 500_000
