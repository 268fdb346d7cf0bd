"""The verdict in Python: that of reporting, and inert wherever a notebook shows it."""

import dataclasses

import pandas as pd
import pytest
from pages_run import write_pages_run
from report_reading import LIVE, NAMES, read

from probing.api import OpenRun, open_run
from probing.reporting import tables
from probing.reporting.filters import Filters
from probing.reporting.mechanism import Asked
from probing.settings import KIND_PRESETS, Training

FEW = 12
"""Problems of the run that verdicts are asked of."""


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> OpenRun:
    path = tmp_path_factory.mktemp("api") / "little.zarr"
    write_pages_run(path, problems=FEW)
    return open_run(path)


def test_the_verdict_is_that_of_reporting(little: OpenRun) -> None:
    found = little.verdict(
        train_temperature=1.4, train_top_k=10, where={"generator": "ssd"}, preset="strict"
    )
    asked = Asked(
        training=Training.told(temperature=1.4, top_k=10),
        rule=KIND_PRESETS["strict"],
        filters=Filters(generator=("ssd",)),
    )
    wanted = tables.mechanism(little.run, ["ssd", "control"], asked=asked)
    assert found.mechanism == str(wanted.models["ssd"].verdict.mechanism)
    assert found.rule == wanted.models["ssd"].verdict.rule
    table = tables.evidence_table(wanted, asked=asked)
    pd.testing.assert_frame_equal(found.evidence, table)
    assert list(found.notes) == tables.evidence_notes(table, found=wanted, asked=asked)
    assert list(found.models) == ["ssd", "control"]
    for name, one in found.models.items():
        assert (one.mechanism, one.rule) == tuple(
            str(part) for part in vars(wanted.models[name].verdict).values()
        )
        pd.testing.assert_frame_equal(one.evidence, table[table["comparison"] == name])


def test_a_training_nobody_told_is_said_to_be_assumed(little: OpenRun) -> None:
    own = {"train_temperature": 1.1, "train_top_k": 20, "train_top_p": 0.95}
    assumed, told = little.verdict(other="control", control="ssd"), Training.told()
    assert told.assumed
    assert "assumed" in assumed.notes[0]
    assert next(iter(assumed.models)) == "control"
    assert told == dataclasses.replace(Training(), assumed=("temperature", "top_k", "top_p"))
    said = Training.told(temperature=own["train_temperature"])
    assert said.assumed == ("top_k", "top_p")
    assert said.said == "T 1.1, top-k 20 (assumed), top-p 0.95 (assumed)"
    assert (said.top_k, said.top_p) == (Training().top_k, Training().top_p)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> OpenRun:
    """Models and texts named to be markup."""
    path = tmp_path_factory.mktemp("hostile") / "hostile.zarr"
    write_pages_run(path, problems=FEW, models=NAMES)
    return open_run(path)


def test_nothing_of_a_model_is_live_where_it_is_shown(hostile: OpenRun) -> None:
    _, other, control = hostile.models
    verdict = hostile.verdict(train_temperature=1.4, control=control)
    examples = hostile.examples(n=40, ranking="random", control=control)
    for shown in (verdict, verdict.models[other], examples, examples[0]):
        page = read(shown._repr_html_())
        allowed = {"div", "p", "table", "caption", "thead", "tbody", "tr", "th", "td", "ul", "li"}
        assert {tag for tag, _ in page.elements} <= allowed | {"pre", "mark", "code"}
        attributes = {name for _, given in page.elements for name in given}
        assert attributes <= {"class", "scope", "title", "tabindex", "rowspan"}
        # What would set formulas is told not to, for all of it.
        first, given = page.elements[0]
        assert first == "div"
        assert {"tex2jax_ignore", "mathjax_ignore"} <= set(given["class"].split())
        for text in ("".join(page.text), repr(shown)):
            assert not {"\x1b", "\u202e", "\x07", "\r"} & set(text)
    assert LIVE(other)
    assert "<script>" not in examples._repr_html_()
    assert "image href" in "".join(read(verdict._repr_html_()).text)
    assert "\x1b" not in repr(hostile)


def test_a_verdict_reads_as_text(little: OpenRun) -> None:
    found = little.verdict(train_temperature=1.4)
    said = repr(found).splitlines()
    assert said[0] == f"ssd: {found.mechanism} ({found.rule})"
    assert said[1].startswith("control: ")
    assert [line for line in said if line.startswith("note: ")] == [
        f"note: {note}" for note in found.notes
    ]
    head = next(i for i, text in enumerate(said) if text.startswith("Primary  "))
    rows = [text for text in said[head + 1 :] if not text.startswith("note: ")]
    assert len(rows) == int((found.evidence["primary"] != "").sum())
    ends = {text.index("  ssd  ") for text in rows if "  ssd  " in text}
    assert len(ends) == 1, "columns stand in line"
