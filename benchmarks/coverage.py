"""Whether 95 % intervals cover the truth 95 % of the time.

Each run draws clusters (problems) of unequal size: 1 + Poisson positions whose mean is lognormal
(median 6, sigma 0.8). Every cluster has an effect of its own and every position noise of its own:

  normal         effects and noise are normal, intra-class correlation 0.2
  sizes matter   the effect also falls with the size of the cluster
  skewed         effects are exponential less their mean, noise is normal
  heavy tails    effects are Student's t with 3 degrees of freedom

The truth is the position-weighted mean of the population, found on 2 million clusters.

    python -m benchmarks.coverage [--runs 1000] [--clusters 30,60,120] [--seed S] [--json F]
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import common
from probing.analysis.inference import cluster_interval
from probing.settings import Inference

CORRELATION = 0.2
POPULATION = 2_000_000
MEDIAN_SIZE, SIGMA_SIZE = 6.0, 0.8

Effects = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Of every cluster, from its mean size; variance 1."""

CASES: dict[str, Effects] = {
    "normal": lambda size, rng: rng.standard_normal(len(size)),
    "sizes matter": lambda size, rng: (
        0.8 * rng.standard_normal(len(size)) - 0.6 * np.log(size / MEDIAN_SIZE) / SIGMA_SIZE
    ),
    "skewed": lambda size, rng: rng.exponential(size=len(size)) - 1.0,
    "heavy tails": lambda size, rng: rng.standard_t(3, size=len(size)) / np.sqrt(3.0),
}


def truth(effects: Effects, rng: np.random.Generator) -> float:
    """The mean over positions of the population."""
    size, expected = _sizes(POPULATION, rng)
    return float((effects(expected, rng) * size).sum() * np.sqrt(CORRELATION) / size.sum())


def _sizes(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    expected = MEDIAN_SIZE * np.exp(SIGMA_SIZE * rng.standard_normal(count))
    return 1 + rng.poisson(expected), expected


def one_run(
    effects: Effects, *, clusters: int, settings: Inference, rng: np.random.Generator
) -> tuple[float, float]:
    """Bounds of the interval of one draw."""
    size, expected = _sizes(clusters, rng)
    own = np.repeat(effects(expected, rng), size) * np.sqrt(CORRELATION)
    noise = rng.standard_normal(len(own)) * np.sqrt(1 - CORRELATION)
    found = cluster_interval(
        own + noise,
        weights=np.ones(len(own)),
        clusters=np.repeat(np.arange(clusters), size),
        settings=settings,
        rng=rng,
    )
    return found.low, found.high


def main() -> None:
    """Draw and print."""
    parser = common.parser(__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--clusters", default="30,60,120")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    settings = Inference()
    rows: list[dict[str, Any]] = []
    for place, (name, effects) in enumerate(CASES.items()):
        wanted = truth(effects, np.random.default_rng([asked.seed, place]))
        for clusters in map(int, asked.clusters.split(",")):
            rng = np.random.default_rng([asked.seed, place, clusters])
            bounds = np.array(
                [
                    one_run(effects, clusters=clusters, settings=settings, rng=rng)
                    for _ in range(asked.runs)
                ]
            )
            below, above = (bounds[:, 1] < wanted).mean(), (bounds[:, 0] > wanted).mean()
            row = {
                "case": name,
                "clusters": clusters,
                "runs": asked.runs,
                "coverage": float(1 - below - above),
                "missed_below": float(below),
                "missed_above": float(above),
                "width": float(np.median(bounds[:, 1] - bounds[:, 0])),
            }
            rows.append(row)
            print(
                f"{name:14} {clusters:4} clusters: covers {row['coverage']:.1%} of {asked.runs} "
                f"(too low {below:.1%}, too high {above:.1%}), width {row['width']:.3f}",
                flush=True,
            )
    common.write_json(asked.json, rows)


if __name__ == "__main__":
    main()
