"""The Python API gives what the tables of reporting are, and refuses in words."""

import inspect
import json
import logging
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from interpreter import in_new_interpreter
from pages_run import write_pages_run
from tiny import tiny_pair
from tiny_runs import Recorder, write_carriers

import probing
from probing.api import OpenRun, open_run, score
from probing.cli.options import filters_of
from probing.errors import NotARun, OutsideContract, UsageFault
from probing.reporting import tables
from probing.reporting.contrasts import Models, contrast_name, models_beside
from probing.reporting.drifting import DriftAsked
from probing.reporting.examples import Order
from probing.reporting.filters import FILTERED, Filters, filters_where, keep
from probing.settings import (
    DEFAULT_EXAMPLES,
    KIND_PRESETS,
    ORDERS,
    Decoding,
    KindRule,
    ModelSpec,
    RunSettings,
)
from probing.vocabulary import Assignment, Stratum

ROOT = Path(__file__).parents[1]
WARM = {"temperature": 1.3, "top_k": 12, "top_p": 0.9}
FEW = 12
"""Problems of a run that is only opened."""


@pytest.fixture(scope="module")
def opened(written: Any) -> OpenRun:
    return open_run(written.path)


def compared(
    opened: OpenRun, *, other: str, control: str | None, decoding: Decoding, preset: str = "post"
) -> dict[str, pd.DataFrame]:
    return tables.all_comparisons(
        opened.run, other=other, control=control, decoding=decoding, rule=KIND_PRESETS[preset]
    )


def with_drift_null(opened: OpenRun, table: pd.DataFrame, filters: Filters) -> pd.DataFrame:
    """The table with the drift null beside the other, by the defaults."""
    asked = DriftAsked(
        other="ssd", control="control", decoding=Decoding(), rule=KindRule(), filters=filters
    )
    return tables.with_drift(table, tables.drift_null(opened.run, asked))


def test_a_run_says_what_it_is(opened: OpenRun, written: Any) -> None:
    assert opened.models == ("baseline", "ssd", "control")
    assert opened.fingerprint == opened.run.fingerprint
    assert opened.manifest is opened.run.manifest
    assert opened.complete
    assert len(opened) == len(opened.run)
    said = repr(opened)
    assert str(written.path) in said
    assert f"{len(opened):,} positions of {len(opened.run.carriers()):,} responses" in said
    assert "ssd, control against baseline" in said
    with pytest.raises(AttributeError):
        opened.run = opened.run  # type: ignore[misc]


def test_a_run_that_is_being_written_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_pages_run(tmp_path / "half.zarr", problems=FEW, finish=False)
    half = open_run(str(tmp_path / "half.zarr"))
    assert not half.complete
    assert "is incomplete: " in repr(half)
    assert "is incomplete: " in caplog.text
    caplog.clear()
    write_pages_run(tmp_path / "whole.zarr", problems=FEW)
    assert "incomplete" not in repr(open_run(tmp_path / "whole.zarr"))
    assert caplog.text == ""


@pytest.mark.parametrize("preset", list(KIND_PRESETS))
def test_positions_are_the_table(opened: OpenRun, preset: str) -> None:
    found = opened.positions(**WARM, min_p=0.01, order="vllm", preset=preset)
    wanted = tables.position_table(
        opened.run, decoding=Decoding(**WARM, min_p=0.01, order="vllm"), rule=KIND_PRESETS[preset]
    )
    pd.testing.assert_frame_equal(found, wanted)


def test_left_out_everything_is_as_by_default(opened: OpenRun) -> None:
    wanted = tables.position_table(opened.run, decoding=Decoding(), rule=KindRule())
    pd.testing.assert_frame_equal(opened.positions(), wanted)
    by_kind = tables.delta_tables(
        compared(opened, other="ssd", control="control", decoding=Decoding()), by=["kind"]
    )
    pd.testing.assert_frame_equal(opened.deltas(), with_drift_null(opened, by_kind, Filters()))


def test_signatures_hold_the_defaults_of_settings() -> None:
    own = {
        **{name: getattr(Decoding(), name) for name in ("temperature", "top_k", "top_p", "min_p")},
        "order": Decoding().order,
        "preset": KindRule().preset,
        "n": DEFAULT_EXAMPLES,
    }
    seen = set()
    for name, method in inspect.getmembers(OpenRun, inspect.isfunction):
        if name.startswith("_"):
            continue
        _, *parameters = inspect.signature(method).parameters.values()
        assert parameters, name
        for each in parameters:
            assert each.kind is inspect.Parameter.KEYWORD_ONLY, (name, each.name)
            if each.name in own:
                assert each.default == own[each.name]
                seen.add(each.name)
    assert seen == set(own)


@pytest.mark.parametrize("assignment", list(Assignment))
def test_deltas_are_the_table(opened: OpenRun, assignment: Assignment) -> None:
    found = opened.deltas(
        by=["generator", "kind"],
        other="control",
        control="ssd",
        where={"kind": ["lock-like", "fork-like"], "generator": "ssd"},
        assignment=assignment.value,
        preset="strict",
        **WARM,
    )
    filters = Filters(kind=("lock-like", "fork-like"), generator=("ssd",), assignment=assignment)
    wanted = tables.delta_tables(
        compared(
            opened, other="control", control="ssd", decoding=Decoding(**WARM), preset="strict"
        ),
        by=["generator", "kind"],
        filters=filters,
    )
    pd.testing.assert_frame_equal(found, wanted)


@pytest.mark.parametrize("name", ["assignments", "events", "transitions"])
def test_the_other_summaries_are_the_tables(opened: OpenRun, name: str) -> None:
    made: dict[str, Callable[..., pd.DataFrame]] = {
        "assignments": tables.assignment_tables,
        "events": tables.event_tables,
        "transitions": tables.transition_tables,
    }
    where = {"generator": ["ssd"]}
    filters = Filters(generator=("ssd",))
    wanted = made[name](
        compared(opened, other="ssd", control="control", decoding=Decoding()), filters=filters
    )
    if name == "assignments":
        wanted = with_drift_null(opened, wanted, filters)
    pd.testing.assert_frame_equal(getattr(opened, name)(where=where), wanted)


def test_groups_are_taken_once_and_in_their_order(opened: OpenRun) -> None:
    twice = opened.deltas(by=[Stratum.GENERATOR, "kind", "generator"])
    assert list(twice)[1:3] == ["generator", "kind"]
    pd.testing.assert_frame_equal(opened.deltas(by="phase"), opened.deltas(by=("phase",)))
    nothing = opened.deltas(by=[])
    assert "kind" not in nothing
    assert len(nothing) == nothing["comparison"].nunique() * nothing["quantity"].nunique()


def test_swapping_the_models_flips_every_sign(opened: OpenRun) -> None:
    ends = ["ssd", "control"]
    one, two = (
        opened.deltas(by=[], other=first, control=second) for first, second in (ends, ends[::-1])
    )
    forth = one[one["comparison"] == contrast_name(*ends)].set_index("quantity")
    back = two[two["comparison"] == contrast_name(*ends[::-1])].set_index("quantity")
    pd.testing.assert_series_equal(forth["delta"], -back["delta"], rtol=1e-9)


LABELS = {"kind": "fork-like", "generator": "ssd", "event": "swap"}


def test_a_label_a_list_of_one_and_the_text_of_the_command_keep_the_same() -> None:
    for assignment in Assignment:
        single = filters_where(LABELS, assignment=assignment)
        listed = filters_where({k: [v] for k, v in LABELS.items()}, assignment=assignment)
        text = filters_of([f"{k}={v}" for k, v in LABELS.items()], assignment=assignment)
        assert single == listed == text
    several = filters_of(["kind=mixed,diffuse", "kind=fork-like"], assignment=Assignment.MEAN)
    assert several == filters_where({"kind": ["mixed", "diffuse", "fork-like"]})
    assert filters_where({}) == Filters()
    for stratum in FILTERED:
        assert getattr(filters_where({stratum: "x"}), stratum.value) == ("x",)


def test_more_labels_keep_more_and_all_labels_keep_all(opened: OpenRun) -> None:
    """Positions in `where` of each kind alone add up to those of both."""
    by = {"by": [], "control": "control"}

    def counted(*kinds: str) -> int:
        found = opened.deltas(**by, where={"kind": list(kinds)})
        return int(found.loc[found["comparison"] == "ssd", "positions"].iloc[0])

    lock, fork = counted("lock-like"), counted("fork-like")
    assert 0 < fork < lock
    assert counted("lock-like", "fork-like") == counted("fork-like", "lock-like") == lock + fork


def test_examples_are_the_ranked_positions(opened: OpenRun) -> None:
    where = {"event": "swap"}
    found = opened.examples(n=3, by="entropy_nats", ranking="largest increase", where=where, **WARM)
    comparison = tables.comparison_table(
        opened.run, other="ssd", decoding=Decoding(**WARM), rule=KindRule()
    )
    kept = keep(comparison, filters=Filters(event=("swap",)))
    ranked = tables.ranked_positions(kept, by="entropy_nats", order=Order.INCREASE)
    assert [each.row for each in found] == ranked["row"].tolist()[:3]
    assert len(found) == 3
    assert found[0].row == found.found[0].row
    for each in found:
        wanted = tables.example_table(
            opened.run, each.row, other="ssd", control="control", decoding=Decoding(**WARM)
        )
        pd.testing.assert_frame_equal(each.table, wanted)
        assert each.context == tables.shown_context(opened.run, each.row)
    whole = pd.concat([each.table for each in found], ignore_index=True)
    pd.testing.assert_frame_equal(found.table.drop(columns=["row", "carrier_id"]), whole)
    assert list(found.table["row"].unique()) == [each.row for each in found]


def test_random_examples_hang_on_their_seed_alone(opened: OpenRun) -> None:
    def drawn(seed: int) -> list[int]:
        return [each.row for each in opened.examples(n=5, ranking="random", seed=seed)]

    assert drawn(1) == drawn(1) != drawn(2)


def test_where_nothing_is_measured_there_is_no_example(opened: OpenRun) -> None:
    found = opened.examples(by="js", temperature=0.7)
    assert len(found) == 0
    assert found.table.empty
    assert "No position is left" in repr(found)
    assert "No position is left" in found._repr_html_()


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda run: run.deltas(by=["colour"]), r"by takes strata of kind, event, .*got 'colour'"),
        (lambda run: run.deltas(where={"colour": "red"}), r"where takes strata of .*'colour'"),
        (lambda run: run.deltas(where={"selectors": "x"}), r"where takes strata of .*'selectors'"),
        (lambda run: run.deltas(where={"kind": "lock"}), r"kind takes lock-like, .*got 'lock'"),
        (lambda run: run.events(where={"kind": []}), r"where takes a label of kind, or a list"),
        (
            lambda run: run.deltas(other="nobody"),
            r"other must be one of ssd, control, got 'nobody'",
        ),
        (lambda run: run.deltas(other=""), r"other must be one of ssd, control, got ''"),
        (lambda run: run.deltas(control="ssd"), r"a control must differ .* got 'ssd'"),
        (lambda run: run.deltas(assignment="both"), r"assignment takes mean, .*got 'both'"),
        (lambda run: run.deltas(preset="pre"), r"^preset takes post, strict, entropy, got 'pre'"),
        (lambda run: run.deltas(temperature=-1), r"temperature must be >= 0 .*got -1"),
        (lambda run: run.positions(top_p=1.5), r"top_p must be in \(0, 1\], got 1\.5"),
        (lambda run: run.examples(by="colour"), r"by takes top1_prob, .*got 'colour'"),
        (lambda run: run.examples(ranking="best"), r"ranking takes largest increase, .*'best'"),
        (lambda run: run.examples(n=0), r"n must be >= 1, got 0"),
        (lambda run: run.verdict(where={"kind": "lock-like"}), r"takes every kind"),
        (lambda run: run.verdict(where={"generator": "x"}), r"generator takes .*got 'x'"),
        (
            lambda run: run.verdict(train_temperature=0),
            r"^train_temperature, of .* must be > 0, got 0",
        ),
        (lambda run: run.verdict(preset="pre"), r"^preset takes post"),
        (lambda _: score({"out": "x"}), r"^the settings: carriers: Field required"),
        (lambda _: score({"outt": "x"}), r"outt: Unexpected .*known here: out, "),
        (lambda _: score({"out": object()}), r"^the settings: values are texts, numbers"),
        (lambda _: score("absent.toml"), r"run file absent\.toml cannot be read"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(
    opened: OpenRun, ask: Callable[[OpenRun], object], said: str
) -> None:
    with pytest.raises(UsageFault, match=said):
        ask(opened)


def test_models_are_chosen_before_anything_is_computed(opened: OpenRun) -> None:
    run = opened.run
    assert models_beside(run) == Models("ssd", "control")
    assert models_beside(run, other="control") == Models("control", None)
    assert models_beside(run, other="control", control="ssd").names == ("control", "ssd")
    for other in ("nobody", "baseline", ""):
        with pytest.raises(UsageFault, match="other must be one of ssd, control"):
            models_beside(run, other=other, control="ssd")


def test_faults_of_runs_are_the_projects_own(opened: OpenRun, tmp_path: Path) -> None:
    with pytest.raises(OutsideContract, match=r"temperature must be in"):
        opened.positions(temperature=3)
    with pytest.raises(NotARun, match="absent"):
        open_run(tmp_path / "absent.zarr")


WRONG_TYPES = """
import probing
from probing.api import OpenRun

run = OpenRun(None)
for ask in (
    lambda: run.positions(temperature="1.5"),
    lambda: run.positions(top_k=2.5),
    lambda: run.positions(order=3),
    lambda: run.deltas(order="last"),
    lambda: run.deltas(where={"kind": 3}),
    lambda: run.deltas(where={"correct": [True]}),
    lambda: run.examples(n="3"),
    lambda: run.verdict(train_top_k=None, train_top_p="0.9"),
    lambda: probing.score(3),
):
    try:
        ask()
    except probing.UsageFault as fault:
        print(fault)
"""


def test_wrong_types_are_refused_in_words_where_nothing_checks_them() -> None:
    """In an interpreter of its own: here the annotations of every call are checked."""
    said = in_new_interpreter(WRONG_TYPES).splitlines()
    assert [text.rpartition(", got ")[2] for text in said] == [
        "'1.5'", "2.5", "3", "'last'", "3", "[True]", "'3'", "'0.9'", "3",
    ]  # fmt: skip
    assert said[0] == "temperature must be a number, got '1.5'"
    assert said[3].startswith(f"order must be one of {', '.join(ORDERS)}, got")
    assert said[1] == "top_k must be a whole number, got 2.5"


def test_numpys_numbers_are_numbers(opened: OpenRun) -> None:
    found = opened.positions(
        temperature=np.float64(1.3), top_k=np.int64(12), top_p=np.float64(0.9), min_p=0
    )
    pd.testing.assert_frame_equal(found, opened.positions(**WARM))


def settings_of(folder: Path) -> dict[str, Any]:
    pair = tiny_pair(folder)
    carriers = write_carriers(folder / "in.jsonl")
    return {
        "out": folder / "run.zarr",
        "carriers": (carriers,),
        "baseline": {"path": pair.baseline},
        "others": {"ssd": {"path": pair.trained}},
        "scoring": {"device": "cpu", "noise_carriers": 0},
    }


def test_scoring_by_dict_by_file_and_by_settings_is_one_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    document = settings_of(tmp_path)
    carriers = Path(document["carriers"][0])
    whole = carriers.read_text(encoding="utf-8")
    carriers.write_text(whole + "{bad\n", encoding="utf-8")
    progress = Recorder()
    with caplog.at_level(logging.WARNING, logger="probing.api"):
        scored = score(document, progress=progress)
    assert isinstance(scored, OpenRun)
    assert scored.models == ("baseline", "ssd")
    assert scored.complete
    assert progress.done == progress.total == len(scored)
    assert "1 records were skipped" in caplog.text
    assert f"in.jsonl:{len(whole.splitlines()) + 1}: bad JSON" in caplog.text
    assert len(scored.manifest.skipped) == 1
    file = tmp_path / "run.toml"
    plain = json.loads(json.dumps(document, default=str))
    file.write_text(
        "\n".join(
            [
                f"out = {json.dumps(plain['out'])}",
                f"carriers = {json.dumps(plain['carriers'])}",
                f"baseline.path = {json.dumps(plain['baseline']['path'])}",
                f"others.ssd.path = {json.dumps(plain['others']['ssd']['path'])}",
                'scoring = { device = "cpu", noise_carriers = 0 }',
            ]
        ),
        encoding="utf-8",
    )
    assert tomllib.loads(file.read_text(encoding="utf-8")) == plain
    settings = RunSettings(
        out=plain["out"],
        carriers=tuple(plain["carriers"]),
        baseline=ModelSpec(name="baseline", path=plain["baseline"]["path"]),
        others=(ModelSpec(name="ssd", path=plain["others"]["ssd"]["path"]),),
        scoring=probing.Scoring(device="cpu", noise_carriers=0),
    )
    caplog.clear()
    for given in (file, str(file), settings):
        with caplog.at_level(logging.INFO, logger="probing.api"):
            assert score(given).fingerprint == scored.fingerprint
        assert "is complete; nothing to score" in caplog.text
