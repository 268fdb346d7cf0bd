"""The worked notebook runs anywhere, and shows what the commands say of the same run."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest

from probing.cli import main

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
RUN = str(ROOT / "cache" / "bundled.zarr")
RUNNER = Path(__file__).parent / "notebook_running.py"
TRAINING = ("--train-temperature", "1.6", "--train-top-k", "20", "--train-top-p", "0.8")

KEPT = """
import json

for name in ("deltas", "assignments", "positions"):
    globals()[name].to_pickle(f"{name}.pickle")
examples.table.to_pickle("examples.pickle")
verdict.evidence.to_pickle("verdict.pickle")
told = {name: [one.mechanism, one.rule] for name, one in verdict.models.items()}
with open("told.json", "w") as file:
    json.dump({"verdicts": told, "counts": counts, "notes": verdict.notes}, file)
"""
"""A last cell: what the notebook found, for the tests."""


def execute(notebook: Path, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """In a folder that is neither the notebook's nor the clone's."""
    home.mkdir(parents=True)
    elsewhere = home / "elsewhere"
    elsewhere.mkdir()
    return subprocess.run(
        [sys.executable, str(RUNNER), str(notebook), str(home / "jupyter")],
        check=False,
        capture_output=True,
        text=True,
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **environment},
    )


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a copy that ran with one more cell, in a clone that holds only the run."""
    clone = tmp_path_factory.mktemp("clone")
    (clone / "cache").mkdir()
    (clone / "cache" / "bundled.zarr").symlink_to(RUN, target_is_directory=True)
    (clone / "docs").mkdir()
    copy = clone / "docs" / NOTEBOOK.name
    document = nbformat.read(NOTEBOOK, as_version=4)
    document.cells.append(nbformat.v4.new_code_cell(KEPT))
    nbformat.write(document, copy)
    no_home = clone / "no-home"
    no_home.write_text("a file, in which nothing can be kept", encoding="utf-8")
    # Proxies that lead nowhere: a cell that fetches something fails.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    done = execute(copy, clone / "home", HOME=str(no_home), **nowhere)
    assert done.returncode == 0, done.stderr[-3000:]
    return copy.parent


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> str:
    monkeypatch.setattr(sys, "argv", ["probing", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    return capsys.readouterr().out


def same(found: pd.DataFrame, csv: Path) -> None:
    """A table equals the CSV of a command, text as text and numbers as numbers."""
    wanted = pd.read_csv(csv)
    assert list(found) == list(wanted)
    assert len(found) == len(wanted)
    for name in found:
        if pd.api.types.is_numeric_dtype(wanted[name]) and not wanted[name].isna().all():
            pd.testing.assert_series_equal(
                found[name].astype("float64").reset_index(drop=True),
                wanted[name].astype("float64"),
                rtol=1e-12,
            )
        else:
            texts = ["" if pd.isna(cell) else str(cell) for cell in found[name]]
            read = ["" if pd.isna(cell) else str(cell) for cell in wanted[name]]
            # A spreadsheet's formula is no formula: an apostrophe stands before it.
            assert [text.removeprefix("'") for text in read] == texts, name


@pytest.mark.parametrize(
    ("table", "arguments"),
    [
        ("deltas", ("summary", "--by", "kind", "--by", "generator")),
        ("assignments", ("summary", "--table", "assignments")),
        ("verdict", ("verdict", *TRAINING)),
    ],
)
def test_its_figures_are_those_of_the_command(
    executed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    table: str,
    arguments: tuple[str, ...],
) -> None:
    name, *options = arguments
    command(monkeypatch, capsys, name, RUN, *options, "--csv", str(tmp_path / "t.csv"))
    same(pd.read_pickle(executed / f"{table}.pickle"), tmp_path / "t.csv")


def test_its_positions_are_those_of_the_command(
    executed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    decoding = ("-T", "1.5", "--top-k", "20", "--top-p", "0.95")
    target = tmp_path / "p.parquet"
    command(monkeypatch, capsys, "positions", RUN, *decoding, "--parquet", str(target))
    found, wanted = pd.read_pickle(executed / "positions.pickle"), pd.read_parquet(target)
    assert list(found) == list(wanted)
    for column in ("carrier_id", "position", "model", "kind"):
        assert list(found[column]) == list(wanted[column])
    for column in ("top1_prob", "tail_mass", "nucleus_size", "kl_baseline_other"):
        pd.testing.assert_series_equal(found[column], wanted[column], rtol=1e-12)


def test_its_verdict_is_that_of_the_command(
    executed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads((executed / "told.json").read_text(encoding="utf-8"))
    wanted = json.loads(command(monkeypatch, capsys, "verdict", RUN, *TRAINING, "--json"))
    assert told["verdicts"] == {
        name: [one["mechanism"], one["rule"]] for name, one in wanted["verdicts"].items()
    }
    assert told["notes"] == wanted["notes"]


def test_what_its_prose_says_is_so(executed: Path) -> None:
    deltas = pd.read_pickle(executed / "deltas.pickle")
    by = deltas.set_index(["kind", "quantity", "comparison", "generator"]).sort_index()
    ssd = by.loc[("fork-like", "top1_prob", "ssd")]
    assert len(ssd) == 2
    assert (ssd["high"] < 0).all()
    assert (ssd["reads"] == "changed").all()
    control = by.loc[("fork-like", "top1_prob", "control")]
    assert not control["reads"].isin(["changed", "small change"]).any()
    assert (by.loc[("lock-like", "top1_prob", "ssd"), "reads"] == "preserved").all()
    kept = by.loc[("fork-like", "entropy_kept_nats", "ssd")]
    assert ((kept["low"] < 0) & (kept["high"] > 0)).all()
    assert (by.loc["fork-like"]["problems"] < 40).all()
    assignments = pd.read_pickle(executed / "assignments.pickle")
    by = assignments.set_index(["kind", "quantity", "comparison"]).sort_index()
    whose = by.loc[("fork-like", "top1_prob", "ssd")]
    assert len(whose) == 3
    assert ((whose["delta"] < whose["null"]) & (whose["high"] < 0)).all()
    assert (whose["reads"] == "changed").all()
    told = json.loads((executed / "told.json").read_text(encoding="utf-8"))
    mechanism, rule = told["verdicts"]["ssd"]
    assert mechanism == "generic shift"
    assert "single tokens, or contexts that recur, moved alike, and so did the control's" in rule
    assert told["verdicts"]["control"][0] == "generic shift"
    evidence = pd.read_pickle(executed / "verdict.pickle").set_index(["comparison", "figure"])
    assert evidence.loc[("ssd", "gap"), "reads"] == "cannot tell"
    assert evidence.loc[("ssd", "support at forks"), "reads"] == "supports"
    assert evidence.loc[("control", "support at forks"), "reads"] == "cannot tell"
    wrote = pd.read_pickle(executed / "positions.pickle").drop_duplicates("carrier_id")
    shares = wrote["generator"].value_counts(normalize=True)
    assert shares.to_dict() == {"smollm2-135m-maths": 0.5, "ssd": 0.5}
    found = pd.read_pickle(executed / "examples.pickle")
    assert found["row"].nunique() == 2


def outputs(executed: Path, cell: str) -> dict[str, Any]:
    """What the last line of a cell shows, by form."""
    document = nbformat.read(executed / NOTEBOOK.name, as_version=4)
    (found,) = (each for each in document.cells if each["id"] == cell)
    return dict(found["outputs"][-1]["data"])


def test_it_shows_a_chart_as_a_picture_and_tables_as_html(executed: Path) -> None:
    assert outputs(executed, "chart")["image/svg+xml"].lstrip().startswith("<svg")
    for cell in ("deltas", "examples", "verdict"):
        shown = outputs(executed, cell)
        assert "<table" in shown["text/html"]
        assert "<script" not in shown["text/html"]
    assert "ssd: generic shift" in outputs(executed, "verdict")["text/plain"]
    assert "<mark>" in outputs(executed, "examples")["text/html"]


def test_no_cell_says_anything_on_the_side(executed: Path) -> None:
    document = nbformat.read(executed / NOTEBOOK.name, as_version=4)
    kinds = {each["output_type"] for cell in document.cells for each in cell.get("outputs", ())}
    assert kinds <= {"execute_result", "display_data"}


def test_it_is_kept_without_outputs_and_with_named_cells() -> None:
    document = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in document["cells"]}) == len(document["cells"])
    assert set(document["metadata"]) == {"kernelspec", "language_info"}


def test_a_cell_that_fails_fails_the_run(tmp_path: Path) -> None:
    broken = tmp_path / "broken.ipynb"
    cells = [nbformat.v4.new_code_cell("1 / 0")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), broken)
    done = execute(broken, tmp_path / "home")
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stderr
