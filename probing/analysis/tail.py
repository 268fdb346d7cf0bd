"""The tail: what lies outside the candidates, at any temperature of the grid's range.

Source: docs/method.md, What is stored; interpolation at Chebyshev points (Berrut and
Trefethen, 2004), here with slopes (Hermite).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from probing.analysis.distributions import Betas, Tail
from probing.analysis.passes import steadied_rows, tail_rows
from probing.errors import OutsideContract
from probing.settings import TailGrid
from probing.vocabulary import PerPosition, TailNodes

RANGE_SLACK = 1e-6
"""How far outside the grid, relative to beta, a temperature still counts as its end: nodes may
have been stored in float32."""


def tail_betas(grid: TailGrid) -> Betas:
    """Nodes of the tail grid: Chebyshev points in log beta, beta = 1/T, ascending, float64.

    They are the points of the second kind, which include both ends, so that the stored nodes
    themselves say which temperatures may be asked for.
    """
    low, high = -np.log(grid.temperature_max), -np.log(grid.temperature_min)
    angles = np.pi * np.arange(grid.nodes)[::-1] / (grid.nodes - 1)
    betas: Betas = np.exp((low + high) / 2 + (high - low) / 2 * np.cos(angles))
    betas[0], betas[-1] = 1 / grid.temperature_max, 1 / grid.temperature_min
    return betas


class InterpolationWeights(NamedTuple):
    """What each node contributes at one beta, log beta being the variable.

    With values f_n and slopes g_n = df/dlog beta at the nodes, `sum(value * f)` is the polynomial
    through the values, and `sum(osculating_value * f + osculating_slope * g)` the one of twice the
    degree that also has the slopes (Hermite).
    """

    value: Betas
    osculating_value: Betas
    osculating_slope: Betas


def interpolation_weights(betas: Betas, *, beta: float) -> InterpolationWeights:
    """Weights of the nodes at `beta`.

    Raises:
        OutsideContract: beta lies outside the nodes.
    """
    require_inside(betas, beta=beta)
    return _weights(betas.astype(np.float64, copy=False).tobytes(), float(beta))


@lru_cache(maxsize=64)
def _weights(betas: bytes, beta: float) -> InterpolationWeights:
    nodes = np.log(np.frombuffer(betas))
    # A beta within the slack of an end is taken as that end.
    offsets = np.clip(np.log(beta), nodes[0], nodes[-1]) - nodes
    gaps = nodes[:, None] - nodes[None, :]
    np.fill_diagonal(gaps, 1.0)
    ratios = offsets[None, :] / gaps
    np.fill_diagonal(ratios, 1.0)
    lagrange = ratios.prod(axis=1)
    steepness = (1 / gaps).sum(axis=1) - 1.0  # The diagonal contributed 1.
    return InterpolationWeights(
        value=lagrange,
        osculating_value=lagrange**2 * (1 - 2 * steepness * offsets),
        osculating_slope=lagrange**2 * offsets,
    )


def require_inside(betas: Betas, *, beta: float) -> None:
    """Raise `OutsideContract` unless beta lies within the nodes."""
    if not betas[0] * (1 - RANGE_SLACK) <= beta <= betas[-1] * (1 + RANGE_SLACK):
        raise OutsideContract(
            f"temperature must be in [{1 / betas[-1]:.6g}, {1 / betas[0]:.6g}] (or 0 for greedy) "
            f"where part of the vocabulary is stored as a tail, got {1 / beta:.6g}; choose one "
            "inside, or score again with a wider [tail] range"
        )


@dataclass(frozen=True)
class TailAt:
    """The tail at one temperature; as in `Tail`, per position, float64. Empty tails hold 0."""

    log_mass: PerPosition
    mean: PerPosition
    square: PerPosition


def at_temperature(tail: Tail, betas: Betas, *, temperature: float) -> TailAt:
    """Interpolate the tail in log beta.

    The stored moments are derivatives of each other: d log_mass / d beta = mean, and
    d mean / d beta = square - mean^2. Log mass and mean are therefore interpolated with their
    slopes, which a tail of two levels (a sharp turn in log beta) needs: values alone missed the
    tail's mass by 2e-3 there, with slopes 4e-5. The slope of the square is not stored: its part
    that is linear in the mean (all of it, for a tail of two levels) follows the well-known mean,
    and only the rest is left to the polynomial through the values.

    Raises:
        OutsideContract: some row has a tail and the temperature lies outside the grid.
    """
    if not np.isfinite(tail.reference).any():
        nothing = np.zeros(len(tail.reference))
        return TailAt(log_mass=nothing, mean=nothing, square=nothing)
    weights = interpolation_weights(betas, beta=1 / temperature)
    log_mass, mean, square = tail_rows((tail.log_mass, tail.mean, tail.square), betas, weights)
    return TailAt(log_mass=log_mass, mean=mean, square=square)


def cross_mean_at(
    tail: Tail, at: TailAt, betas: Betas, *, cross_mean: TailNodes, temperature: float
) -> PerPosition:
    """The mean of another distribution's logits over this tail, at one temperature.

    Args:
        tail: Whose tempered tail the mean is taken over.
        at: That tail at the temperature.
        betas: Nodes of the grid.
        cross_mean: That mean at the nodes, relative to the other's own `reference`.
        temperature: Of the tail.

    Raises:
        OutsideContract: some row has a tail and the temperature lies outside the grid.
    """
    if not np.isfinite(tail.reference).any():
        return np.zeros(len(tail.reference))
    weights = interpolation_weights(betas, beta=1 / temperature)
    return steadied_rows(cross_mean, tail.mean, at.mean, weights.value)


def tail_of_rows(
    logits: Float[np.ndarray, "position vocabulary"],
    is_candidate: Bool[np.ndarray, "position vocabulary"],
    *,
    betas: Betas,
) -> Tail:
    """The tail of full rows, plainly, row by row: for synthetic rows, and to compare with."""
    rows = len(logits)
    reference = np.full(rows, -np.inf, dtype=np.float32)
    moments = np.zeros((3, rows, len(betas)), dtype=np.float32)
    for row in range(rows):
        outside = _outside(logits[row], is_candidate[row])
        if not outside.size:
            continue
        reference[row] = outside.max()
        shifted = outside - outside.max()
        for node, beta in enumerate(betas):
            weight = np.exp(beta * shifted)
            mass = weight.sum()
            moments[0, row, node] = np.log(mass)
            moments[1, row, node] = (weight * shifted).sum() / mass
            moments[2, row, node] = (weight * shifted**2).sum() / mass
    return Tail(reference=reference, log_mass=moments[0], mean=moments[1], square=moments[2])


def cross_mean_of_rows(
    logits: Float[np.ndarray, "position vocabulary"],
    other: Float[np.ndarray, "position vocabulary"],
    is_candidate: Bool[np.ndarray, "position vocabulary"],
    *,
    betas: Betas,
) -> TailNodes:
    """The mean of `other` over the tempered tail of `logits`, plainly, as `tail_of_rows`.

    Relative to `other`'s own maximum outside the candidates. Ids that either masks are left out.
    """
    means = np.zeros((len(logits), len(betas)), dtype=np.float32)
    for row in range(len(logits)):
        outside = ~is_candidate[row] & np.isfinite(logits[row])
        both = outside & np.isfinite(other[row])
        if not both.any():
            continue
        reference = _outside(other[row], is_candidate[row]).max()
        shifted = logits[row, both].astype(np.float64)
        shifted -= shifted.max()
        for node, beta in enumerate(betas):
            weight = np.exp(beta * shifted)
            means[row, node] = (weight * (other[row, both] - reference)).sum() / weight.sum()
    return means


def _outside(
    logits: Float[np.ndarray, " vocabulary"], is_candidate: Bool[np.ndarray, " vocabulary"]
) -> Float[np.ndarray, " outside"]:
    """Finite logits of ids that are no candidates, float64."""
    finite = ~is_candidate & np.isfinite(logits)
    outside: Float[np.ndarray, " outside"] = logits[finite].astype(np.float64)
    return outside
