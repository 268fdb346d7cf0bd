"""A server makes its first page before anybody asks; what cannot be read is told on the page."""

from pathlib import Path

import pytest
import streamlit as st
from pages_run import write_pages_run
from streamlit.testing.v1 import AppTest

from probing.dashboard import loaders, warming

APP = Path(__file__).parents[1] / "streamlit_app.py"


@pytest.fixture(autouse=True)
def _cold() -> None:
    st.cache_data.clear()
    st.cache_resource.clear()


def visited(monkeypatch: pytest.MonkeyPatch, run: Path) -> AppTest:
    monkeypatch.setenv(loaders.RUNS_VARIABLE, str(run))
    return AppTest.from_file(str(APP), default_timeout=120)


def test_the_first_visitor_finds_all_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.zarr"
    write_pages_run(path, problems=6)
    warming.warm(lambda: {path.name: str(path)})

    def never(*asked: object, **named: object) -> None:
        raise AssertionError(f"this was made already: {asked}")

    for name in ("open_run", "cells", "division"):
        monkeypatch.setattr(loaders, name, never)
    for name in ("answer", "standing_table", "value_columns", "drift_null"):
        monkeypatch.setattr(loaders.tables, name, never)
    app = visited(monkeypatch, path).run()
    assert not app.exception
    assert len(app.dataframe[0].value) > 0


@pytest.mark.parametrize("runs", [{}, {"none.zarr": "/nowhere/none.zarr"}])
def test_what_cannot_be_opened_waits_for_the_page(runs: dict[str, str]) -> None:
    warming.warm(lambda: runs)


@pytest.mark.parametrize("array", ["logit", "statistics/entropy_kept_nats"])
@pytest.mark.parametrize("page", ["overview", "deltas", "examples", "carrier"])
def test_damage_met_on_a_page_is_told_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, array: str, page: str
) -> None:
    path = tmp_path / "run.zarr"
    write_pages_run(path, problems=6)
    for shard in (path / array / "c").rglob("*"):
        if shard.is_file():
            content = bytearray(shard.read_bytes())
            content[len(content) // 2] ^= 1
            shard.write_bytes(bytes(content))
    app = visited(monkeypatch, path)
    app.switch_page(f"probing/dashboard/pages/{page}.py").run()
    if page == "carrier" and array != "logit":
        app.selectbox(key="colored_by").set_value("entropy_kept_nats").run()
    assert not app.exception
    assert [error.value for error in app.error] == ["This page cannot be drawn."]
    assert array in " ".join(text.value for text in app.text)
    assert app.sidebar.selectbox(key="other").value == "ssd"
    app.switch_page("probing/dashboard/pages/methods.py").run()
    assert not app.error


def test_what_no_page_foresees_is_told_in_the_log_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unplugged(location: str) -> None:
        raise OSError("the cable is out\x1b[2J")

    path = tmp_path / "run.zarr"
    write_pages_run(path, problems=6)
    monkeypatch.setattr(loaders, "open_run", unplugged)
    warming.warm(lambda: {path.name: str(path)})
    (said,) = [record.message for record in caplog.records if record.name == warming.__name__]
    assert "the cable is out" in said
    assert "\x1b" not in said
