"""Half-precision grids of logits, against torch's own casts; models that are on one say so."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from tiny import tiny_model, tiny_pair
from tiny_logits import loaded

from probing.analysis.grid import Grid, grid_step, logit_grid, rows_on_grid
from probing.cli.scoring import score_settings
from probing.scoring import selfcheck
from probing.scoring.batching import Wanted
from probing.scoring.forward import PlainForward
from probing.scoring.heads import CannotSplit
from probing.settings import ModelSpec, RunSettings, Scoring, Selection, StoreLayout
from probing.store.reader import open_run

SCORING = Scoring(device="cpu")
DTYPES = {Grid.BFLOAT16: torch.bfloat16, Grid.FLOAT16: torch.float16}
grids = st.sampled_from(Grid)
rows = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(-300, 300, width=32) | st.sampled_from([-np.inf, np.nan, 0.0, 1e38]),
)


def rounded(logits: np.ndarray, grid: Grid) -> np.ndarray:
    return torch.from_numpy(logits).to(DTYPES[grid]).float().numpy()


@given(rows, grids)
def test_a_row_is_on_a_grid_where_the_cast_changes_none_of_its_logits(
    logits: np.ndarray, grid: Grid
) -> None:
    kept = rounded(logits, grid)
    for row, cast, on_grid in zip(logits, kept, rows_on_grid(logits, grid), strict=True):
        assert on_grid == all(b == a for a, b in zip(row, cast, strict=True) if np.isfinite(a))


@given(rows)
def test_what_was_rounded_is_found_whatever_is_masked(logits: np.ndarray) -> None:
    logits = np.clip(logits, -300, 300, where=np.isfinite(logits), out=logits)
    told = (np.isfinite(logits) & (logits != 0)).any()
    assert logit_grid(rounded(logits, Grid.BFLOAT16)) == (Grid.BFLOAT16 if told else None)
    half = rounded(logits, Grid.FLOAT16)
    # Few bits are on both grids; the coarser is then named.
    both = (rounded(half, Grid.BFLOAT16) == half)[np.isfinite(half)].all()
    if (np.isfinite(half) & (half != 0)).any():
        assert logit_grid(half) == (Grid.BFLOAT16 if both else Grid.FLOAT16)


@given(st.integers(0, 2**32), grids)
def test_one_logit_off_the_grid_is_enough(seed: int, grid: Grid) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=5, size=(8, 300)).astype(np.float32)
    assert logit_grid(logits) is None
    on_grid = rounded(logits, grid)
    assert logit_grid(on_grid) == grid
    place = (rng.integers(8), rng.integers(300))
    on_grid[place] = np.nextafter(on_grid[place], np.float32(np.inf))
    assert logit_grid(on_grid) is None


def test_rows_without_a_logit_say_nothing() -> None:
    nothing = np.full((2, 3), -np.inf, dtype=np.float32)
    nothing[1, 0] = 0
    assert logit_grid(nothing) is None
    assert logit_grid(nothing[:0]) is None
    telling = np.array([[0.1, 0.2, 0.3]], dtype=np.float32)
    assert logit_grid(np.concatenate([nothing, rounded(telling, Grid.FLOAT16)])) == Grid.FLOAT16


@given(arrays(np.float32, 7, elements=st.floats(-300, 300, width=32)), grids)
def test_a_step_leads_to_the_neighbour(logits: np.ndarray, grid: Grid) -> None:
    cast = torch.from_numpy(np.abs(logits)).to(DTYPES[grid])
    outward = (cast.view(torch.int16) + 1).view(DTYPES[grid])
    step = (outward.double() - cast.double()).numpy()
    np.testing.assert_array_equal(grid_step(cast.float().numpy(), grid=grid), step)


def test_the_step_of_the_tables_in_the_method() -> None:
    assert grid_step(np.array([16.0, -20.0, 31.9]), grid=Grid.BFLOAT16).tolist() == [0.125] * 3
    assert grid_step(np.array([20.0]), grid=Grid.FLOAT16).tolist() == [0.015625]
    assert np.isnan(grid_step(np.array([np.nan, -np.inf]), grid=Grid.BFLOAT16)).all()


# --- Models -------------------------------------------------------------------------------------


def unsplittable(_: object) -> None:
    raise CannotSplit("no parts")


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
@pytest.mark.parametrize("grid", [None, *Grid])
def test_two_passes_leave_the_grid_and_the_plain_forward_of_a_half_model_is_on_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    architecture: str,
    grid: Grid | None,
) -> None:
    dtype = torch.float32 if grid is None else DTYPES[grid]
    (model,) = loaded(tiny_model(tmp_path / "base", architecture), dtype=dtype)
    wanted = [Wanted(token_ids=np.arange(5, 45, dtype=np.int32), rows=np.arange(3, 39))]
    with caplog.at_level(logging.WARNING):
        split = selfcheck.check_model(model, wanted, scoring=SCORING, chunked=False)
    assert split.check.two_pass
    assert split.check.grid is None
    assert split.check.grid_warning == ""
    assert "grid" not in caplog.text
    monkeypatch.setattr(selfcheck, "TwoPass", unsplittable)
    with caplog.at_level(logging.WARNING):
        whole = selfcheck.check_model(model, wanted, scoring=SCORING, chunked=False)
    assert isinstance(whole.runner, PlainForward)
    assert whole.check.grid == grid
    assert (f"sit on {grid}'s grid" in caplog.text) == (grid is not None)
    logits = whole.runner.rows(wanted, scoring=SCORING).block(0, 36).numpy()
    if grid is not None:
        step = np.median(grid_step(logits.max(axis=1), grid=grid))
        assert whole.check.grid_step == step
        assert f"gaps below one step ({step:.3g} nats" in caplog.text


@pytest.mark.parametrize("on_grid", [False, True])
def test_a_run_keeps_the_grid_and_the_command_warns(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    on_grid: bool,
) -> None:
    pair = tiny_pair(tmp_path / "pair")
    path = tmp_path / "carriers.jsonl"
    line = {"carrier_id": "c", "problem_id": "p", "generator": "base", "prompt": "Sum?"}
    path.write_text(json.dumps({**line, "response": "Let x be 7. Wait, yes."}), encoding="utf-8")
    settings = RunSettings(
        out=str(tmp_path / "run.zarr"),
        carriers=(str(path),),
        baseline=ModelSpec(name="base", path=str(pair.baseline)),
        others=(ModelSpec(name="ssd", path=str(pair.trained)),),
        selection=Selection(all_positions=True),
        store=StoreLayout(top_k=24, shard_rows=32, chunk_rows=8),
        scoring=replace(SCORING, dtype="bfloat16", self_check_tolerance_half=2.0),
    )
    if on_grid:
        monkeypatch.setattr(selfcheck, "TwoPass", unsplittable)
    score_settings(settings)
    run = open_run(settings.out)
    wanted = Grid.BFLOAT16 if on_grid else None
    assert [run.logit_grid(model) for model in run.model_names] == [wanted] * 2
    for check in run.summary["self_check"]:
        assert check["grid"] == wanted
        assert (check["grid_step"] is not None) == on_grid
    printed = capsys.readouterr().out
    assert printed.count("logits sit on bfloat16's grid") == 2 * on_grid
    assert printed.count("are ties") == 2 * on_grid
