"""Figures of the evidence and their nulls, against plain arithmetic over whole vocabularies."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp
from test_decoding_orders import whole
from test_evidence import TRAINING, pair_of, target_of

from probing.analysis.decoding import statistics
from probing.analysis.drift import matching_scale, surprise
from probing.analysis.figures import FIGURES, LEAST_PREDICTED, TILT
from probing.analysis.kinds import CODES, kinds
from probing.analysis.mechanism import (
    Compared,
    Evidence,
    Reading,
    Together,
    evidence,
    weighed,
)
from probing.analysis.pair import NEAR, PairRows, Weighted
from probing.analysis.reshaping import CERTAINTIES, CLASSES, UNCERTAIN
from probing.settings import Decoding, KindRule
from probing.vocabulary import Kind

ROWS, VOCABULARY, PROBLEMS = 60, 50, 12
READING = Reading(training=TRAINING, kinds=Decoding(), rule=KindRule(), drift_draws=1)
SEED = 4


def entropy(q: np.ndarray) -> float:
    q = q[q > 0]
    return float(-(q * np.log(q)).sum())


@dataclass(frozen=True)
class Listed:
    """Of one position: regressors, what they should tell, weights and ids of its tokens."""

    x: np.ndarray
    y: np.ndarray
    w: np.ndarray
    ids: np.ndarray


def slopes(rows: list[Listed], weights: np.ndarray, *, tokens: bool) -> tuple[np.ndarray, float]:
    """Least squares of y on x with an intercept for every row, and the share of y it tells.

    `tokens`: and one for every token.
    """
    design, target, root = [], [], []
    for place, each in enumerate(rows):
        dummies = np.zeros((len(each.y), len(rows) + VOCABULARY))
        dummies[:, place] = 1
        if tokens:
            dummies[np.arange(len(each.y)), len(rows) + each.ids] = 1
        design.append(np.concatenate([each.x, dummies], axis=1))
        target.append(each.y)
        root.append(np.sqrt(each.w * weights[place]))
    scale = np.concatenate(root)
    table, y = np.concatenate(design) * scale[:, None], np.concatenate(target) * scale
    regressors = rows[0].x.shape[1]
    alone = table[:, regressors:]
    left, spread = (y - part @ np.linalg.lstsq(part, y, rcond=None)[0] for part in (table, alone))
    found = np.linalg.lstsq(table, y, rcond=None)[0][:regressors]
    return found, float(1 - (left**2).sum() / (spread**2).sum())


@dataclass(frozen=True)
class Plain:
    """Every figure of b against a, over rows of the whole vocabulary."""

    a: np.ndarray
    b: np.ndarray
    kind: np.ndarray
    weights: np.ndarray

    def slope(self) -> tuple[float, float]:
        rows = []
        for a, b in zip(self.a, self.b, strict=True):
            q, log_a, log_b = target_of(a, TRAINING), log_softmax(a), log_softmax(b)
            inside = q > 0
            x = (np.log(q[inside]) - log_a[inside])[:, None]
            rows.append(Listed(x, (log_b - log_a)[inside], q[inside], np.flatnonzero(inside)))
        found, told = slopes(rows, self.weights, tokens=True)
        return float(found[0]), told

    def at_edge(self) -> tuple[float, float, float]:
        """Trend; its tilt; gap.

        The gap beside a dummy for every class of probability and certainty and for every token, and
        beside a slope for every row.
        """
        trends, tilts, gaps = [], [], []
        for row, (a, b) in enumerate(zip(self.a, self.b, strict=True)):
            log_a, log_b = log_softmax(a), log_softmax(b)
            size = int((target_of(a, TRAINING) > 0).sum())
            used = np.argsort(-a)[: size + NEAR]
            outside, x = np.arange(len(used)) >= size, log_a[used]
            open_by = -(np.exp(x) * x).sum()
            change, each = (log_b - log_a)[used], np.ones(len(used))
            trends.append(Listed(np.stack([x, outside], axis=1), change, each, used))
            parts = [part * (open_by >= UNCERTAIN) for part in (x, outside)]
            tilts.append(Listed(np.stack([*parts, x, outside], axis=1), change, each, used))
            edges = zip([-np.inf, *CERTAINTIES], [*CERTAINTIES, np.inf], strict=True)
            alike = [float(low < open_by <= high) for low, high in edges]
            below = [(x < bound) * same for bound in [*CLASSES, np.inf] for same in alike]
            own = [x * (row == place) for place in range(len(self.a))]
            beside = np.stack([outside, x**2, *below, *own], axis=1)
            gaps.append(Listed(beside, change, each, used))
        (trend, *_), _ = slopes(trends, self.weights, tokens=False)
        (tilt, *_), _ = slopes(tilts, self.weights, tokens=False)
        (gap, *_), _ = slopes(gaps, self.weights, tokens=True)
        return float(trend), float(tilt), float(gap)

    def per_row(self) -> dict[str, np.ndarray]:
        found: dict[str, list[float]] = {
            name: [] for name in ("support", "within", "entropy within S", "top-1", "sign")
        }
        for a, b in zip(self.a, self.b, strict=True):
            q, log_a, log_b = target_of(a, TRAINING), log_softmax(a), log_softmax(b)
            support = logsumexp(log_b[q > 0]) - logsumexp(log_a[q > 0])
            found["support"].append(support)
            found["within"].append((q * (log_b - log_a)).sum() - support)
            after, before = (entropy(target_of(each, READING.kinds)) for each in (b, a))
            found["entropy within S"].append(after - before)
            found["top-1"].append(np.exp(log_b.max()) - np.exp(log_a.max()))
            top = a.argmax()
            aimed = q[top] - np.exp(log_a[top])
            sign = np.sign(aimed) * np.sign(log_b[top] - log_a[top])
            found["sign"].append(sign if abs(aimed) >= LEAST_PREDICTED else np.nan)
        return {name: np.array(values) for name, values in found.items()}

    def figures(self) -> dict[str, float]:
        values = self.per_row()

        def mean(name: str, inside: np.ndarray) -> float:
            good = inside & np.isfinite(values[name])
            return float(np.average(values[name][good], weights=self.weights[good]))

        places = {"locks": self.kind == CODES[Kind.LOCK], "forks": self.kind == CODES[Kind.FORK]}
        found = {
            f"{name} at {place}": mean(name, inside)
            for name in values
            for place, inside in places.items()
        }
        for name in ("entropy within S", "top-1", "support"):
            found[f"{name}, fork - lock"] = found[f"{name} at forks"] - found[f"{name} at locks"]
        found["sign of the top-1 change"] = mean("sign", np.ones(len(self.a), dtype=bool))
        trend, tilt, gap = self.at_edge()
        return found | {"slope": self.slope()[0], "trend": trend, TILT: tilt, "gap": gap}


@dataclass(frozen=True)
class Case:
    """Two models over a small vocabulary, every id of which is a candidate, and their evidence."""

    a: np.ndarray
    b: np.ndarray
    pair: PairRows
    weights: np.ndarray
    evidence: Evidence
    scale: np.ndarray
    noise: np.ndarray

    def figures(self, a: np.ndarray, b: np.ndarray, *, between: np.ndarray) -> dict[str, float]:
        return Plain(a, b, kinds_of(between), self.weights).figures()

    def drifted(self, share: float) -> np.ndarray:
        """The baseline with this share of its noise."""
        return self.a + share * self.scale[:, None] * self.noise


def kinds_of(full: np.ndarray) -> np.ndarray:
    stats = statistics(whole(full), decoding=READING.kinds, rule=READING.rule)
    return kinds(stats, rule=READING.rule)


def divergence(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    log_a, log_b = (log_softmax(x.astype(np.float64), axis=1) for x in (a, b))
    return (np.exp(log_a) * (log_a - log_b)).sum(axis=1)


@pytest.fixture(scope="module")
def case() -> Case:
    rng = np.random.default_rng(0)
    spread = rng.uniform(1.0, 6.0, size=(ROWS, 1))
    a = (spread * rng.normal(size=(ROWS, VOCABULARY))).astype(np.float32)
    mixed = [np.log(0.8 * np.exp(log_softmax(row)) + 0.2 * target_of(row, TRAINING)) for row in a]
    b = (np.array(mixed) + 0.5 * rng.normal(size=a.shape)).astype(np.float32)
    pair, weights, kl = pair_of(a, b), rng.uniform(0.2, 3.0, size=ROWS), divergence(a, b)
    found = evidence(
        pair,
        kl=kl,
        counted=Weighted(weights, np.arange(ROWS) % PROBLEMS, PROBLEMS),
        reading=READING,
        rng=np.random.default_rng(SEED),
    )
    scale, noise = noise_of(pair, kl, a=a, weights=weights, stream=first_stream())
    return Case(a, b, pair, weights, found, scale, noise)


def first_stream() -> np.random.Generator:
    """What the first draw of noise is taken from."""
    return np.random.default_rng(SEED).spawn(1)[0]


def noise_of(
    pair: PairRows,
    kl: np.ndarray,
    *,
    a: np.ndarray,
    weights: np.ndarray,
    stream: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """The size of the next noise of a stream at every position, and the noise of every id."""
    drawn = stream.standard_normal(pair.baseline.logits.shape)
    scale = matching_scale(surprise(pair.baseline, drawn), kl, groups=kinds_of(a), weights=weights)
    noise = np.zeros(a.shape)
    np.put_along_axis(
        noise, pair.baseline.ids[:, :VOCABULARY].astype(np.int64), drawn[:, :VOCABULARY], axis=1
    )
    return scale, noise


def assert_all(found: dict[str, float], expected: dict[str, float]) -> None:
    assert list(found) == list(FIGURES)
    for name, value in found.items():
        assert value == pytest.approx(expected[name], rel=1e-4, abs=1e-5), name


def test_every_figure_is_the_plain_one(case: Case) -> None:
    found = {name: tested.own.value for name, tested in case.evidence.figures.items()}
    assert_all(found, case.figures(case.a, case.b, between=(case.a + case.b) / 2))


def test_the_exchange_null_is_half_the_sum_with_the_figure_in_exchanged_roles(case: Case) -> None:
    found = {name: tested.exchange.value for name, tested in case.evidence.figures.items()}
    middle = (case.a + case.b) / 2
    own, swapped = (
        case.figures(*sides, between=middle) for sides in ((case.a, case.b), (case.b, case.a))
    )
    assert_all(found, {name: (own[name] + swapped[name]) / 2 for name in own})


def test_the_drift_null_is_the_figure_of_the_baseline_with_noise(case: Case) -> None:
    found = {name: tested.drift.value for name, tested in case.evidence.figures.items()}
    assert_all(found, case.figures(case.a, case.drifted(1.0), between=case.drifted(0.5)))
    groups = kinds_of(case.a)
    assert len(np.unique(case.scale)) == len(np.unique(groups)) == len(Kind)
    cost = divergence(case.a, case.drifted(1.0))
    for group in np.unique(groups):
        inside = groups == group
        costs, observed = (
            np.average(kl[inside], weights=case.weights[inside])
            for kl in (cost, divergence(case.a, case.b))
        )
        assert costs == pytest.approx(observed, rel=1e-5)


def test_what_stands_beside_the_figures_is_weighted_too(case: Case) -> None:
    assert case.evidence.noise == pytest.approx(np.average(case.scale, weights=case.weights))
    plain = Plain(case.a, case.b, kinds_of(case.a), case.weights)
    assert case.evidence.r_squared == pytest.approx(plain.slope()[1], abs=1e-5)


def test_a_difference_is_at_the_kinds_of_the_mean_over_all_models(case: Case) -> None:
    rng = np.random.default_rng(7)
    c = (case.a + 0.8 * rng.normal(size=case.a.shape)).astype(np.float32)
    middle = (case.a + case.b + c) / 3
    counted = Weighted(case.weights, np.arange(ROWS) % PROBLEMS, PROBLEMS)
    compared = [Compared(pair_of(case.a, each), divergence(case.a, each)) for each in (case.b, c)]
    found = weighed(
        compared,
        together=Together(whole(middle), 3),
        counted=counted,
        reading=READING,
        rng=np.random.default_rng(SEED),
    )
    first, second = (case.figures(case.a, each, between=middle) for each in (case.b, c))
    back = [case.figures(each, case.a, between=middle) for each in (case.b, c)]
    assert found.difference is not None
    values = {name: tested.own.value for name, tested in found.difference.items()}
    assert_all(values, {name: first[name] - second[name] for name in first})
    nulls = {name: tested.exchange.value for name, tested in found.difference.items()}
    halves = [
        {name: (own[name] + other[name]) / 2 for name in own}
        for own, other in zip((first, second), back, strict=True)
    ]
    assert_all(nulls, {name: halves[0][name] - halves[1][name] for name in first})
    stream = first_stream()
    noises = [
        scale[:, None] * noise
        for scale, noise in (
            noise_of(each.rows, each.kl, a=case.a, weights=case.weights, stream=stream)
            for each in compared
        )
    ]
    noisy_middle = case.a + (noises[0] + noises[1]) / 3
    drifts = [case.figures(case.a, case.a + each, between=noisy_middle) for each in noises]
    assert (kinds_of(noisy_middle) != kinds_of(case.a + noises[0] / 2)).any()
    drift = {name: tested.drift.value for name, tested in found.difference.items()}
    assert_all(drift, {name: drifts[0][name] - drifts[1][name] for name in first})
    own_kinds = kinds_of((case.a + case.b) / 2)
    assert (own_kinds != kinds_of(middle)).any(), "else this says nothing of the kinds"
    alone = found.models[0].figures["support at forks"].own.value
    assert alone == pytest.approx(case.evidence.figures["support at forks"].own.value)


def test_two_models_alike_differ_by_nothing_beyond_their_nulls(case: Case) -> None:
    compared = [Compared(case.pair, divergence(case.a, case.b))] * 2
    found = weighed(
        compared,
        together=Together(whole((case.a + 2 * case.b) / 3), 3),
        counted=Weighted(case.weights, np.arange(ROWS) % PROBLEMS, PROBLEMS),
        reading=Reading(training=TRAINING, kinds=Decoding(), rule=KindRule(), drift_draws=4),
        rng=np.random.default_rng(SEED),
    )
    assert found.difference is not None
    for name, tested in found.difference.items():
        assert tested.own.value == pytest.approx(0, abs=1e-12), name
        assert tested.exchange.value == pytest.approx(0, abs=1e-12), name
        # Each has noise of its own, so their drift nulls differ by chance alone.
        assert not tested.p_value < 0.001, name
