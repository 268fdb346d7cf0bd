"""Golden numbers of the SSD paper's toy (docs/method.md, section on the target)."""

import numpy as np
import pytest
from rows import stored

from probing.analysis.decoding import kept_probabilities
from probing.analysis.distributions import Distributions
from probing.analysis.target import ssd_target
from probing.settings import Decoding

LISTED = {
    "lock": (0.750, 0.055, 0.050, 0.037),
    "fork": (0.148, 0.280, 0.140, 0.144),
    "root": (0.200, 0.190, 0.329, 0.126),
}
TRAINING = Decoding(temperature=0.9, top_k=0, top_p=0.85)


def _rows(masses: np.ndarray) -> Distributions:
    with np.errstate(divide="ignore"):
        logits = np.log(masses).astype(np.float32)
    return stored([logits[None, :]], top_k=16).distributions[0]


def _baseline(name: str) -> np.ndarray:
    listed = np.array(LISTED[name])
    rest = 0.5 ** np.arange(12)
    return np.concatenate([listed, rest / rest.sum() * (1 - listed.sum())])


def _target(name: str) -> np.ndarray:
    rows = _rows(_baseline(name))
    target = np.zeros(16)
    target[rows.ids[0]] = ssd_target(rows, training=TRAINING)[0]
    return target


def test_ssd_leaves_two_five_and_four_tokens() -> None:
    assert [int((_target(name) > 0).sum()) for name in LISTED] == [2, 5, 4]
    assert _target("lock")[:2] == pytest.approx([0.948, 0.052], abs=5e-4)


def _success(masses: dict[str, np.ndarray], *, temperature: float) -> float:
    decoding = Decoding(temperature=temperature, top_k=0, top_p=0.80)
    kept = {}
    for name, mass in masses.items():
        rows = _rows(mass)
        kept[name] = np.zeros(16)
        kept[name][rows.ids[0]] = kept_probabilities(rows, decoding=decoding).kept_probability[0]
    return float(kept["root"][:2].sum() * kept["fork"][0] * kept["lock"][0] ** 3)


@pytest.mark.parametrize(
    ("masses", "best", "at"), [(_baseline, 0.0833, 0.639), (_target, 0.1377, 2.09)]
)
def test_best_success_over_evaluation_temperatures(masses, best, at) -> None:  # noqa: ANN001
    distributions = {name: masses(name) for name in LISTED}
    grid = np.arange(0.3, 3.0, 0.001)
    successes = np.array([_success(distributions, temperature=t) for t in grid])
    assert successes.max() == pytest.approx(best, abs=5e-5)
    assert grid[successes.argmax()] == pytest.approx(at, abs=5e-3)
