"""The pages without a browser: every control moves its figures, and no model text is markup."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import streamlit as st
from pages_run import HOSTILE, THINGS, PagesRun, write_pages_run
from streamlit.testing.v1 import AppTest

from probing.dashboard import loaders
from probing.reporting import display, filters, shares, tables
from probing.reporting.drifting import BY_KIND_ALONE, DriftAsked
from probing.reporting.filters import EVERY, Average, Filters, Weighting
from probing.reporting.quantities import QUANTITIES
from probing.reporting.text import escaped
from probing.settings import KIND_PRESETS, Decoding, KindRule
from probing.vocabulary import Assignment, Stratum

DECODING, RULE, FILTERS = Decoding(), KindRule(), Filters()
CONTROLS = (
    "selectbox",
    "multiselect",
    "slider",
    "toggle",
    "number_input",
    "pills",
    "segmented_control",
)
APP = Path(__file__).parent.parent / "streamlit_app.py"
OPENING = ("top1_prob", "tail_mass", "entropy_kept_nats", "nucleus_size")
"""Quantities that the page of deltas opens with."""

PAGES = {name: f"probing/dashboard/pages/{name}.py" for name in ("overview", "deltas", "examples")}


@pytest.fixture(autouse=True, scope="module")
def _cold() -> Iterator[None]:
    """Nothing is left to other files; within this one, tables are cached as on a server."""
    yield
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture
def app(written: PagesRun, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    return opened(monkeypatch, str(written.path))


@pytest.fixture
def deltas(app: AppTest) -> AppTest:
    return app.switch_page(PAGES["deltas"]).run()


@pytest.fixture
def examples(app: AppTest) -> AppTest:
    return app.switch_page(PAGES["examples"]).run()


def opened(monkeypatch: pytest.MonkeyPatch, runs: str, **query: str) -> AppTest:
    monkeypatch.setenv(loaders.RUNS_VARIABLE, runs)
    app = AppTest.from_file(str(APP), default_timeout=120)
    for key, value in query.items():
        app.query_params[key] = value
    return app.run()


def figures(app: AppTest) -> pd.DataFrame:
    """The table of deltas on the page."""
    assert not app.exception
    return app.dataframe[0].value


def expected(
    written: PagesRun,
    *,
    other: str = "ssd",
    control: str | None = "control",
    decoding: Decoding = DECODING,
    rule: KindRule = RULE,
    kept: Filters = FILTERS,
    kind_decoding: Decoding = DECODING,
    average: Average = Average.POSITION,
) -> pd.DataFrame:
    """The same table, from the store."""
    table = tables.delta_tables(
        tables.all_comparisons(
            written.open(),
            other=other,
            control=control,
            decoding=decoding,
            rule=rule,
            kind_decoding=kind_decoding,
        ),
        by=[Stratum.KIND],
        filters=kept,
        weighting=Weighting(selector=kept.selector, average=average),
    )
    null = tables.drift_null(
        written.open(),
        DriftAsked(
            other=other,
            control=control,
            decoding=decoding,
            rule=rule,
            kind_decoding=kind_decoding,
            filters=kept,
            weighting=Weighting(selector=kept.selector, average=average),
        ),
    )
    table = tables.with_drift(table, null, assignment=kept.assignment)
    shown: pd.DataFrame = display.labelled_deltas(table, by=[Stratum.KIND])
    return shown


def same(app: AppTest, table: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(figures(app).reset_index(drop=True), table, check_dtype=False)


def test_the_page_opens_on_the_stores_figures(app: AppTest, written: PagesRun) -> None:
    same(app, expected(written))
    comparison = tables.comparison_table(
        written.open(), other="ssd", decoding=Decoding(), rule=KindRule()
    )
    kept = filters.count(filters.keep(comparison, filters=Filters()))
    assert [metric.value for metric in app.metric][:4] == [
        f"{kept.positions:,}",
        f"{kept.carriers:,}",
        f"{kept.problems:,}",
        "T 1",
    ]
    assert app.title[0].value == "What fine-tuning changed, token by token"


MOVES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "other": ("selectbox", "control", {"other": "control", "control": None}),
    "control": ("selectbox", "none", {"control": None}),
    "temperature": ("slider", 1.35, {"decoding": Decoding(temperature=1.35)}),
    "greedy": ("toggle", True, {"decoding": Decoding(temperature=0.0)}),
    "top_k": ("number_input", 8, {"decoding": Decoding(top_k=8)}),
    "top_p": ("number_input", 0.6, {"decoding": Decoding(top_p=0.6)}),
    "preset": ("selectbox", "strict", {"rule": KIND_PRESETS["strict"]}),
    "assignment": (
        "segmented_control",
        "baseline",
        {"kept": Filters(assignment=Assignment.BASELINE)},
    ),
    "selector": ("selectbox", EVERY, {"kept": Filters(selector=EVERY)}),
    "kind": ("pills", ["fork-like", "mixed"], {"kept": Filters(kind=("fork-like", "mixed"))}),
    "correct": ("pills", ["wrong"], {"kept": Filters(correct=("wrong",))}),
    "generator": ("pills", ["ssd"], {"kept": Filters(generator=("ssd",))}),
    "event": ("multiselect", ["softened"], {"kept": Filters(event=("softened",))}),
    "right": ("pills", ["both right"], {"kept": Filters(right_model=("both right",))}),
    "phase": (
        "pills",
        ["after think-close"],
        {"kept": Filters(phase=("after think-close",))},
    ),
    "token": ("pills", ["word"], {"kept": Filters(token_class=("word",))}),
    "subject": ("pills", [THINGS[1]], {"kept": Filters(subject=(THINGS[1],))}),
    "difficulty": ("pills", ["hard"], {"kept": Filters(difficulty=("hard",))}),
    "sampled": (
        "pills",
        ["T = 0.6"],
        {"kept": Filters(sampling_temperature=("T = 0.6",))},
    ),
    "average": ("segmented_control", "carrier", {"average": Average.CARRIER}),
}


@pytest.mark.parametrize("key", MOVES)
def test_each_control_moves_the_figures(app: AppTest, written: PagesRun, key: str) -> None:
    kind, value, settings = MOVES[key]
    before = figures(app)
    getattr(app, kind)(key=key).set_value(value)
    app.run()
    same(app, expected(written, **settings))
    assert not figures(app).equals(before)


def test_length_is_filtered_by_its_label(app: AppTest, written: PagesRun) -> None:
    label = next(one for one in app.pills(key="length").options if one.startswith("long"))
    app.pills(key="length").set_value([label]).run()
    same(app, expected(written, kept=Filters(length_bin=(label,))))


def test_kinds_follow_the_decoding_only_when_asked(app: AppTest, written: PagesRun) -> None:
    hot = Decoding(temperature=1.8)
    app.slider(key="temperature").set_value(1.8).run()
    same(app, expected(written, decoding=hot))
    app.toggle(key="kinds_follow").set_value(True).run()
    same(app, expected(written, decoding=hot, kind_decoding=hot))


def test_the_address_sets_the_controls(written: PagesRun, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened(
        monkeypatch, str(written.path), other="control", temperature="0.5", kind="lock-like"
    )
    settings = {"decoding": Decoding(temperature=0.5), "kept": Filters(kind=("lock-like",))}
    same(app, expected(written, other="control", control=None, **settings))


@pytest.mark.parametrize("name", PAGES)
def test_every_control_explains_itself(app: AppTest, name: str) -> None:
    app.switch_page(PAGES[name]).run()
    controls = [control for kind in CONTROLS for control in getattr(app, kind)]
    assert {control.key for control in controls} >= {*MOVES, "run", "length", "kinds_follow"}
    for control in controls:
        assert control.help, control.key


def test_quantities_can_be_chosen(deltas: AppTest) -> None:
    deltas.multiselect(key="quantities").set_value(["varentropy"]).run()
    assert set(figures(deltas)["Quantity"]) == {QUANTITIES["varentropy"].label}
    deltas.multiselect(key="quantities").set_value([]).run()
    assert not deltas.exception
    assert "Choose at least one quantity." in [info.value for info in deltas.info]


@pytest.mark.parametrize("name", PAGES)
def test_what_is_not_measured_is_a_dash(app: AppTest, name: str) -> None:
    app.switch_page(PAGES[name]).run()
    assert len(app.dataframe) > 0
    assert {one.proto.placeholder for one in app.dataframe} == {display.NOT_MEASURED}


def test_a_figure_without_an_interval_says_so(app: AppTest) -> None:
    app.pills(key="kind").set_value(["mixed"]).run()
    below = [metric.delta for metric in app.metric][4:]
    assert below == [display.NO_INTERVAL] * 4


def test_the_tables_below_the_deltas_hold_the_control(deltas: AppTest) -> None:
    for control in ("control", "none"):
        deltas.selectbox(key="control").set_value(control).run()
        assert not deltas.exception
        _, assignments, transitions, events = (one.value for one in deltas.dataframe)
        beside = control == "control"
        found = set(assignments["Comparison"])
        assert found == ({"ssd", "control", "ssd − control"} if beside else {"ssd"})
        for table in (transitions, events):
            assert ("Share control" in table) == ("Share ssd − control" in table) == beside
        assert ("Null control" in events) == beside
        captions = " ".join(caption.value for caption in deltas.caption)
        assert "lock-like under both models too" in captions
        assert f"*{shares.BY_SYMMETRY}*" in captions


def test_groups_can_be_any_one_or_two_strata(deltas: AppTest, written: PagesRun) -> None:
    every = tables.all_comparisons(
        written.open(), other="ssd", control="control", decoding=DECODING, rule=RULE
    )
    for by in ([], ["event"], ["right_model", "correct"], ["selectors"], ["phase", "kind"]):
        deltas.multiselect(key="by").set_value(by).run()
        assert not deltas.exception
        table = tables.delta_tables(every, by=by, quantities=OPENING)
        said = [caption.value for caption in deltas.caption]
        if by:
            assert any(BY_KIND_ALONE in text for text in said)
        else:
            assert not any(BY_KIND_ALONE in text for text in said)
            null = tables.drift_null(written.open(), DriftAsked(other="ssd", control="control"))
            table = tables.with_drift(table, null)
        shown = display.labelled_deltas(table, by=by)
        assert ("Null: drift" in shown) == (not by)
        pd.testing.assert_frame_equal(
            figures(deltas).reset_index(drop=True), shown, check_dtype=False
        )


def test_an_example_is_the_ranked_position(examples: AppTest, written: PagesRun) -> None:
    app = examples
    app.selectbox(key="example_by").set_value("entropy_nats")
    app.selectbox(key="example_order").set_value("largest decrease").run()
    app.number_input(key="example").set_value(3).run()
    comparison = tables.comparison_table(
        written.open(), other="ssd", decoding=Decoding(), rule=KindRule()
    )
    kept = filters.keep(comparison, filters=Filters())
    position = kept.sort_values("entropy_nats_delta", kind="stable").iloc[2]
    assert display.place_text(position) in [text.value for text in app.text]
    assert display.event_text(position) in [header.value for header in app.subheader]
    context = tables.shown_context(written.open(), int(position["row"]))
    assert app.code[0].value == context
    table = tables.example_table(
        written.open(),
        int(position["row"]),
        other="ssd",
        control="control",
        decoding=Decoding(),
    )
    shown = app.dataframe[2].value.reset_index(drop=True)
    pd.testing.assert_frame_equal(shown, display.shown_example(table).data, check_dtype=False)
    facts = app.dataframe[1].value
    assert list(facts.columns) == ["Quantity", "Baseline", "Other", "Delta", "Control"]


def test_a_filter_that_shrinks_the_list_keeps_the_example_inside(examples: AppTest) -> None:
    examples.number_input(key="example").set_value(1000).run()
    examples.pills(key="kind").set_value(["mixed"]).run()
    assert not examples.exception
    example = examples.number_input(key="example")
    assert 1 <= example.value <= example.max


def test_random_order_is_seeded(examples: AppTest) -> None:
    examples.selectbox(key="example_order").set_value("random").run()
    first = examples.code[0].value
    examples.number_input(key="example_seed").set_value(5).run()
    assert examples.code[0].value != first
    examples.number_input(key="example_seed").set_value(0).run()
    assert examples.code[0].value == first


def test_another_order_begins_at_its_first_position(examples: AppTest) -> None:
    examples.number_input(key="example").set_value(7).run()
    examples.selectbox(key="example_order").set_value("random").run()
    assert examples.number_input(key="example").value == 1


@pytest.mark.parametrize("name", PAGES)
def test_nothing_left_is_said_and_nothing_drawn(app: AppTest, name: str) -> None:
    app.switch_page(PAGES[name]).run()
    app.pills(key="kind").set_value(["mixed"])
    app.selectbox(key="selector").set_value("think_close")
    app.pills(key="correct").set_value(["unknown"])
    app.pills(key="generator").set_value(["ssd"]).run()
    assert not app.exception
    assert "No position passes these filters" in app.warning[0].value
    assert not app.dataframe
    assert not app.metric


def test_text_of_models_is_never_markdown(examples: AppTest) -> None:
    app = examples
    app.selectbox(key="selector").set_value(EVERY).run()
    app.selectbox(key="example_order").set_value("random").run()
    last = app.number_input(key="example").max
    seen = set()
    for place in range(1, int(last), 90):
        app.number_input(key="example").set_value(place).run()
        assert not app.exception
        rendered = [*app.markdown, *app.caption, *app.title, *app.header, *app.subheader, *app.info]
        for word in filter(str.strip, HOSTILE):
            assert not any(word in element.value for element in rendered)
            seen |= {word for code in app.code if word in code.value}
    assert seen


def test_names_of_models_are_never_markdown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("base *x*", "<b>ssd</b> $y$")
    write_pages_run(tmp_path / "named.zarr", problems=4, models=names)
    app = opened(monkeypatch, str(tmp_path / "named.zarr"))
    assert not app.exception
    assert f"{names[1]} against {names[0]}" in app.text[0].value
    shown = sorted(app.pills(key="generator").options)
    assert shown == sorted(escaped(name) for name in names)
    assert any(names[1] in text.value for text in app.text[1:])
    rendered = [*app.markdown, *app.caption, *app.title, *app.header, *app.subheader]
    assert not any(name in element.value for name in names for element in rendered)


# Runs


def test_without_a_run_the_page_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(loaders.RUNS_VARIABLE, raising=False)
    assert loaders.listed_runs(tmp_path, page="streamlit_app.py") == {}
    app = AppTest.from_function(_draw_no_runs, default_timeout=60).run()
    assert not app.exception
    assert "probing demo" in app.info[0].value


def _draw_no_runs() -> None:
    from probing.dashboard import controls

    controls.draw({})


def test_what_is_no_run_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened(monkeypatch, str(tmp_path / "absent.zarr"))
    assert not app.exception
    assert app.error[0].value == "This run cannot be opened."
    assert "absent.zarr" in app.text[0].value


def test_a_run_that_is_being_written_is_shown_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = write_pages_run(tmp_path / "part.zarr", problems=20, finish=False)
    app = opened(monkeypatch, str(part.path))
    assert not app.exception
    units = len(part.open().plan.units)
    assert f"still being written: {units - 1} of {units} units" in app.info[0].value
    none = write_pages_run(tmp_path / "none.zarr", problems=2, finish=False)
    app = opened(monkeypatch, str(none.path))
    assert not app.exception
    assert app.error[0].value == "This run has nothing to show yet."


def test_a_run_made_again_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "again.zarr"
    write_pages_run(place, problems=4)
    app = opened(monkeypatch, str(place))
    before = app.metric[0].value
    place.rename(tmp_path / "old.zarr")
    write_pages_run(place, problems=8)
    app.run()
    assert not app.exception
    assert app.metric[0].value != before


def test_runs_are_listed_by_name_with_the_bundled_one_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(loaders.RUNS_VARIABLE, raising=False)
    for name in ("a.zarr", "bundled.zarr", "z.zarr", "models"):
        (tmp_path / name).mkdir()
    listed = loaders.listed_runs(tmp_path, page="streamlit_app.py")
    assert list(listed) == ["bundled.zarr", "a.zarr", "z.zarr"]
    assert listed["a.zarr"] == str(tmp_path / "a.zarr")
    monkeypatch.setenv(
        loaders.RUNS_VARIABLE, "x/r.zarr:s3://bucket/q.zarr:http://h:9/p.zarr:y/r.zarr"
    )
    listed = loaders.listed_runs(tmp_path, page="streamlit_app.py")
    assert list(listed.values()) == [
        "x/r.zarr",
        "s3://bucket/q.zarr",
        "http://h:9/p.zarr",
        "y/r.zarr",
    ]
    assert list(listed) == ["x/r.zarr", "q.zarr", "p.zarr", "y/r.zarr"]
    monkeypatch.setattr("sys.argv", ["/some/streamlit_app.py", "given.zarr"])
    assert loaders.listed_runs(tmp_path, page="streamlit_app.py") == {"given.zarr": "given.zarr"}


def test_the_frame_is_a_picture_frame() -> None:
    assert len(APP.read_text(encoding="utf-8").splitlines()) < 80


def test_a_run_that_was_finished_meanwhile_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "late.zarr"
    write_pages_run(path, problems=6)
    # A commit's folder is there before its document is.
    document = path / "commits" / "finish" / "zarr.json"
    content = document.read_bytes()
    document.unlink()
    for location in (str(path), f"file://{path}"):
        assert not loaders.open_listed(location).complete
    document.write_bytes(content)
    for location in (str(path), f"file://{path}"):
        assert loaders.open_listed(location).complete
