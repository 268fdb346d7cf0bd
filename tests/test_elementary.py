"""Formulas of compiled loops, against the library's own functions."""

import numpy as np
import pytest

from probing.analysis.elementary import compiled, exp2_double, exp2_single, minus_log_mean


@compiled
def evaluated(kind: int, values: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(values)):
        if kind == 0:
            out[i] = exp2_single(values[i])
        elif kind == 1:
            out[i] = exp2_double(values[i])
        else:
            out[i] = minus_log_mean(values[i])


def made(kind: int, values: np.ndarray) -> np.ndarray:
    out = np.empty_like(values)
    evaluated(kind, values, out)
    return out


@pytest.mark.parametrize(
    ("kind", "dtype", "edge", "bound"), [(0, np.float32, 126, 3e-7), (1, np.float64, 1020, 1e-15)]
)
def test_powers_of_two(kind: int, dtype: type, edge: int, bound: float) -> None:
    values = np.linspace(-edge, edge, 200_001).astype(dtype)
    wanted = np.exp2(values.astype(np.longdouble))
    assert np.abs(made(kind, values) / wanted - 1).max() < bound
    assert (np.diff(made(kind, values)) > 0).all()


def test_logarithm_of_a_mean() -> None:
    values = np.concatenate([np.linspace(0, 1, 100_001), 1 - np.logspace(-16, -1, 400)])
    wanted = -np.log1p((values.astype(np.longdouble) - 1) / 2)
    np.testing.assert_allclose(made(2, values), wanted.astype(float), rtol=1e-15, atol=1e-17)
    assert made(2, np.array([1.0]))[0] == 0
