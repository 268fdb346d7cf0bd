"""Half-precision grids of logits, against torch's own casts."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from probing.analysis.grid import Grid, grid_step, logit_grid, rows_on_grid

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
