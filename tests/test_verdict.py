"""The verdict names what was planted; benchmarks/mechanism_recovery.py does so on real rows."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import stats as scipy_stats
from test_evidence import TRAINING, counted_of, overlapping, pair_of, target_of

from probing.analysis import mechanism
from probing.analysis.estimates import Estimate
from probing.analysis.figures import FIGURES, TILT
from probing.analysis.mechanism import Evidence, Reading, evidence
from probing.analysis.moments import kl_nats
from probing.analysis.reshaping import Consistency
from probing.analysis.temperature import TemperatureNull
from probing.analysis.verdict import (
    BESIDE,
    FAMILY,
    LARGEST_GAP,
    Control,
    Mechanism,
    adjusted_p_values,
    least_gap_found,
    verdict,
)
from probing.settings import Decoding, KindRule, Rules

ROWS, PROBLEMS = 480, 40
READING = Reading(training=TRAINING, kinds=Decoding(), rule=KindRule())
NOISE = 0.05


def nothing(a: np.ndarray) -> np.ndarray:
    return a


def colder(a: np.ndarray) -> np.ndarray:
    return (a / 0.75).astype(np.float32)


def trained(a: np.ndarray) -> np.ndarray:
    """A third of the way to the target, in the mixture."""
    mixed = []
    for row in a:
        p = np.exp(row - row.max()).astype(np.float64)
        mixed.append(np.log(0.67 * p / p.sum() + 0.33 * target_of(row, TRAINING)))
    return np.array(mixed, dtype=np.float32)


def biased(a: np.ndarray) -> np.ndarray:
    bias = np.random.default_rng(9).normal(scale=0.4, size=a.shape[1])
    return (a + bias).astype(np.float32)


@cache
def found(moved: Callable[[np.ndarray], np.ndarray], *, swapped: bool = False) -> Evidence:
    a = overlapping(ROWS, vocabulary=200, contexts=48)
    noise = np.random.default_rng(1).normal(scale=NOISE, size=a.shape).astype(np.float32)
    pair = pair_of(a, moved(a) + noise)
    pair = pair.exchanged() if swapped else pair
    kl = kl_nats(
        pair.baseline,
        pair.other,
        cross_mean=pair.other_over_baseline,
        temperature_a=1.0,
        temperature_b=1.0,
    )
    return evidence(
        pair,
        kl=kl,
        counted=counted_of(ROWS, problems=PROBLEMS),
        reading=READING,
        rng=np.random.default_rng(2),
    )


class Streams(np.random.Generator):
    """A generator whose one child is the stream that it was made from."""

    def __init__(self, stream: np.random.Generator) -> None:
        super().__init__(np.random.PCG64(0))
        self.stream = stream

    def spawn(self, n_children: int) -> list[np.random.Generator]:
        assert n_children == 1
        return [self.stream]


@pytest.mark.parametrize(
    ("moved", "wanted"),
    [
        (nothing, Mechanism.NONE),
        (colder, Mechanism.TEMPERATURE),
        (trained, Mechanism.SSD),
        (biased, Mechanism.GENERIC),
        (lambda a: biased(trained(a)), Mechanism.MIXED),
    ],
    ids=["nothing", "temperature", "ssd", "generic", "ssd and generic"],
)
def test_what_was_planted_is_named(
    moved: Callable[[np.ndarray], np.ndarray], wanted: Mechanism
) -> None:
    assert verdict(found(moved), rules=Rules()).mechanism is wanted


def test_exchanging_the_models_exchanges_the_nulls() -> None:
    own, swapped = found(trained), found(trained, swapped=True)
    for name in FIGURES:
        one, other = own.figures[name], swapped.figures[name]
        assert one.exchange.value == pytest.approx(other.exchange.value, abs=1e-9), name
        assert one.beyond[0].value == pytest.approx(-other.beyond[0].value, abs=1e-9), name


def test_the_drift_null_is_the_mean_of_its_draws() -> None:
    a = overlapping(ROWS, vocabulary=200, contexts=48)
    pair, counted = pair_of(a, trained(a)), counted_of(ROWS, problems=PROBLEMS)

    def drift_of(draws: int, rng: np.random.Generator) -> dict[str, Estimate]:
        found = evidence(
            pair,
            kl=np.full(ROWS, 0.05),
            counted=counted,
            reading=replace(READING, drift_draws=draws),
            rng=rng,
        )
        return {name: tested.drift for name, tested in found.figures.items()}

    together = drift_of(2, np.random.default_rng(5))
    streams = np.random.default_rng(5).spawn(2)
    alone = [drift_of(1, Streams(one)) for one in streams]
    for name in FIGURES:
        values = [one[name].value for one in alone]
        assert together[name].value == pytest.approx(np.mean(values), abs=1e-12), name
        assert values[0] != values[1], name
        influence = (alone[0][name].influence + alone[1][name].influence) / 2
        np.testing.assert_allclose(together[name].influence, influence, atol=1e-12)


def test_without_truncation_no_mass_can_move_into_the_support() -> None:
    a = overlapping(60, vocabulary=40, contexts=12)
    untruncated = replace(READING, training=Decoding(temperature=1.1, top_k=0, top_p=1.0))
    found = evidence(
        pair_of(a, colder(a)),
        kl=np.full(60, 0.05),
        counted=counted_of(60, problems=10),
        reading=untruncated,
        rng=np.random.default_rng(0),
    )
    undefined = {name for name, p in adjusted_p_values(found).items() if np.isnan(p)}
    assert {"gap", "support at locks", "support at forks"} <= undefined
    told = verdict(found, rules=Rules())
    assert "cannot be told here: gap, support at locks, support at forks" in told.rule


def test_drift_alone_lies_within_its_null() -> None:
    for name, tested in found(nothing).figures.items():
        assert not tested.p_value < 0.001, name


# --- The rules, one by one --------------------------------------------------------------------


def estimate(value: float, *, error: float) -> Estimate:
    influence = np.zeros(PROBLEMS)
    influence[::2], influence[1::2] = 1.0, -1.0
    influence *= error / np.sqrt(PROBLEMS / (PROBLEMS - 1) * (influence**2).sum())
    return Estimate(value, influence, ROWS)


def flat() -> Evidence:
    """Nothing outside any null."""
    within = mechanism.Tested(
        estimate(0.0, error=0.01), estimate(0.0, error=1e-6), estimate(0.0, error=1e-6)
    )
    share = estimate(0.0, error=0.05)
    return Evidence(
        figures=dict.fromkeys(FIGURES, within),
        temperature=TemperatureNull(1.0, at_end=False, share=share, left=np.zeros(ROWS)),
        tokens=Consistency(share=0.0, p_value=0.5, shift=0.0, least_p_value=0.0005),
        r_squared=0.0,
        noise=0.1,
    )


def with_figure(found: Evidence, name: str, value: float) -> Evidence:
    tested = replace(found.figures[name], own=estimate(value, error=abs(value) / 20))
    return replace(found, figures={**found.figures, name: tested})


def with_tokens(found: Evidence, share: float) -> Evidence:
    return replace(
        found, tokens=Consistency(share=share, p_value=0.0005, shift=0.2, least_p_value=0.0005)
    )


def with_p_value(found: Evidence, name: str, p_value: float) -> Evidence:
    """A figure above both of its nulls by just so much."""
    distance = float(scipy_stats.t.isf(p_value / 2, PROBLEMS - 1))
    tested = replace(found.figures[name], own=estimate(0.3, error=0.3 / distance))
    return replace(found, figures={**found.figures, name: tested})


def with_share(found: Evidence, share: float) -> Evidence:
    own = replace(found.temperature, share=estimate(share, error=0.02))
    return replace(found, temperature=own)


RULES = Rules()
GAP = -2 * RULES.least_gap

CASES = {
    "nothing": (flat(), Mechanism.NONE),
    "a gap": (with_figure(flat(), "gap", GAP), Mechanism.SSD),
    "a gap of the wrong sign": (with_figure(flat(), "gap", -GAP), Mechanism.MIXED),
    "a small gap": (with_figure(flat(), "gap", -RULES.least_gap / 2), Mechanism.MIXED),
    "a gap and tokens": (with_tokens(with_figure(flat(), "gap", GAP), 0.3), Mechanism.MIXED),
    "a gap and hardly any tokens": (
        with_tokens(with_figure(flat(), "gap", GAP), RULES.token_share / 2),
        Mechanism.SSD,
    ),
    "a temperature": (with_share(flat(), 0.95), Mechanism.TEMPERATURE),
    "a temperature and a gap": (with_share(with_figure(flat(), "gap", GAP), 0.95), Mechanism.MIXED),
    "a gap, and as much of a temperature as a target gives": (
        with_share(with_figure(flat(), "gap", GAP), 0.5),
        Mechanism.SSD,
    ),
    "a gap, and a slope away from the target": (
        with_figure(with_figure(flat(), "gap", GAP), "slope", -0.3),
        Mechanism.MIXED,
    ),
    "a gap, and mass that leaves the support": (
        with_figure(with_figure(flat(), "gap", GAP), "support at forks", -0.1),
        Mechanism.MIXED,
    ),
    "a gap, and a slope towards the target": (
        with_figure(with_figure(flat(), "gap", GAP), "slope", 0.3),
        Mechanism.SSD,
    ),
    "a temperature and a gap of the wrong sign": (
        with_share(with_figure(flat(), "gap", -GAP), 0.95),
        Mechanism.MIXED,
    ),
    "tokens, and a part of a temperature": (
        with_tokens(with_share(flat(), RULES.temperature_part), 0.3),
        Mechanism.MIXED,
    ),
    "tokens, and less than a part of a temperature": (
        with_tokens(with_share(flat(), 0.8 * RULES.temperature_part), 0.3),
        Mechanism.GENERIC,
    ),
    "half a temperature": (with_share(flat(), 0.5), Mechanism.MIXED),
    "tokens": (with_tokens(flat(), 0.3), Mechanism.GENERIC),
    "a gap just large enough": (with_figure(flat(), "gap", -RULES.least_gap), Mechanism.SSD),
    "a share just large enough": (
        with_share(flat(), RULES.temperature_share),
        Mechanism.TEMPERATURE,
    ),
    "tokens of a share just large enough": (
        with_tokens(flat(), RULES.token_share),
        Mechanism.GENERIC,
    ),
    "a temperature and tokens": (with_tokens(with_share(flat(), 0.95), 0.3), Mechanism.MIXED),
    "a temperature that is worse than none": (with_share(flat(), -0.95), Mechanism.NONE),
    "a slope, and tokens that may be chance": (
        replace(
            with_figure(flat(), "slope", 0.3),
            tokens=Consistency(share=0.3, p_value=0.5, shift=0.2, least_p_value=0.0005),
        ),
        Mechanism.MIXED,
    ),
    "a slope that is little for one of seven": (
        with_p_value(flat(), "slope", 1.2 * RULES.level / len(FAMILY)),
        Mechanism.NONE,
    ),
    "a slope that is enough for one of seven": (
        with_p_value(flat(), "slope", 0.8 * RULES.level / len(FAMILY)),
        Mechanism.MIXED,
    ),
    "a slope alone": (with_figure(flat(), "slope", 0.3), Mechanism.MIXED),
    "a trend, by which no mechanism is named": (with_figure(flat(), "trend", 0.3), Mechanism.MIXED),
    "a trend that is little for one of nine": (
        with_p_value(flat(), "trend", 1.2 * RULES.level / (len(FAMILY) + len(BESIDE))),
        Mechanism.NONE,
    ),
    "a tilt that is enough for one of nine": (
        with_p_value(flat(), TILT, 0.8 * RULES.level / (len(FAMILY) + len(BESIDE))),
        Mechanism.MIXED,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_rules_apply_in_order(name: str) -> None:
    given, wanted = CASES[name]
    assert verdict(given, rules=RULES).mechanism is wanted


@pytest.mark.parametrize(
    ("difference", "wanted"),
    [(GAP, Mechanism.SSD), (-GAP, Mechanism.MIXED), (0.0, Mechanism.MIXED)],
)
def test_an_edge_that_the_control_has_too_is_not_of_the_training(
    difference: float, wanted: Mechanism
) -> None:
    given, _ = CASES["a gap"]
    told = verdict(given, rules=RULES, control=beside(difference, error=0.01))
    assert told.mechanism is wanted
    assert ("control" in told.rule) == (wanted is Mechanism.MIXED)


def beside(difference: float, *, error: float, found: Evidence | None = None) -> Control:
    """A control whose gap is less by so much."""
    gap = replace(flat().figures["gap"], own=estimate(difference, error=error))
    return Control(gap, flat() if found is None else found)


@pytest.mark.parametrize(
    ("level", "wanted"), [(0.8, Mechanism.SSD), (1.2, Mechanism.MIXED)], ids=["below", "above"]
)
def test_a_gap_beyond_the_control_is_told_at_the_level_of_the_rules(
    level: float, wanted: Mechanism
) -> None:
    distance = float(scipy_stats.t.isf(level * RULES.level / 2, PROBLEMS - 1))
    control = beside(-0.1, error=0.1 / distance)
    assert control.gap.p_value == pytest.approx(level * RULES.level, rel=1e-3)
    told = verdict(CASES["a gap"][0], rules=RULES, control=control)
    assert told.mechanism is wanted
    if wanted is Mechanism.MIXED:
        assert f"difference -0.1 nats, p {control.gap.p_value:.2g}" in told.rule


@pytest.mark.parametrize(
    ("control", "said"),
    [
        (lambda: with_tokens(flat(), 0.3), "so did the control's"),
        (flat, "the control's are not told to have"),
        (lambda: with_tokens(flat(), RULES.token_share / 2), "the control's are not told to have"),
    ],
    ids=["too", "not", "hardly"],
)
def test_a_generic_shift_says_whether_the_control_has_one(
    control: Callable[[], Evidence], said: str
) -> None:
    given, _ = CASES["tokens"]
    told = verdict(given, rules=RULES, control=beside(0.0, error=0.01, found=control()))
    assert told.mechanism is Mechanism.GENERIC
    assert said in told.rule
    assert "control" not in verdict(given, rules=RULES).rule


def with_tilt(found: Evidence, value: float, *, error: float) -> Evidence:
    tested = replace(found.figures[TILT], own=estimate(value, error=error))
    return replace(found, figures={**found.figures, TILT: tested})


@pytest.mark.parametrize(
    ("tilt", "error", "wanted"),
    [
        (-0.2, 0.01, Mechanism.MIXED),
        (0.13, 0.01, Mechanism.MIXED),
        (-0.12, 0.01, Mechanism.TEMPERATURE),  # 1 / 0.8 - 1 is 0.25.
        (-0.2, 0.1, Mechanism.TEMPERATURE),
    ],
    ids=["uneven", "uneven the other way", "little", "untold"],
)
def test_one_temperature_acts_alike_where_the_baseline_is_certain_and_where_not(
    tilt: float, error: float, wanted: Mechanism
) -> None:
    given = with_share(with_tilt(flat(), tilt, error=error), 0.95)
    star = replace(given.temperature, temperature=0.8)
    told = verdict(replace(given, temperature=star), rules=RULES)
    assert told.mechanism is wanted
    assert ("but not alike" in told.rule) == (wanted is Mechanism.MIXED)


def test_a_mixed_verdict_lists_what_was_told() -> None:
    told = verdict(with_tokens(with_figure(flat(), "slope", -0.31), 0.3), rules=RULES)
    assert told.mechanism is Mechanism.GENERIC
    told = verdict(with_tokens(with_figure(flat(), "gap", -0.124), 0.3), rules=RULES)
    assert told.mechanism is Mechanism.MIXED
    assert told.rule.endswith("; told: gap -0.12, single tokens +0.3")


def test_without_anything_outside_the_support_the_rule_says_so() -> None:
    nothing = Estimate(float("nan"), np.zeros(PROBLEMS), 0, 0)
    gap = mechanism.Tested(nothing, nothing, nothing)
    given = with_share(flat(), 0.95)
    told = verdict(replace(given, figures={**given.figures, "gap": gap}), rules=RULES)
    assert told.mechanism is Mechanism.TEMPERATURE
    assert "no gap can be told" in told.rule


@pytest.mark.parametrize(
    ("name", "told_before"),
    [("nothing", 0), ("a gap", 1), ("a temperature", 1), ("a temperature and a gap", 2)],
)
@pytest.mark.parametrize(("factor", "said"), [(0.9, False), (1.1, True)])
def test_where_tokens_cannot_be_told_every_word_says_so(
    name: str, told_before: int, factor: float, said: bool
) -> None:
    given, wanted = CASES[name]
    least = factor * RULES.level / (len(FAMILY) - told_before)
    told = verdict(replace(given, tokens=replace(given.tokens, least_p_value=least)), rules=RULES)
    assert told.mechanism is wanted
    assert ("cannot be told here: single tokens" in told.rule) == said


@pytest.mark.parametrize(("factor", "said"), [(0.9, False), (1.1, True)])
def test_where_only_a_huge_gap_would_be_found_none_can_be_told(factor: float, said: bool) -> None:
    figures = {**flat().figures}
    gap = figures["gap"]
    least = least_gap_found(flat(), RULES)
    scaled = estimate(0.0, error=gap.own.error * factor * LARGEST_GAP / least)
    given = replace(flat(), figures={**figures, "gap": replace(gap, own=scaled)})
    assert (least_gap_found(given, RULES) > LARGEST_GAP) == said
    told = verdict(given, rules=RULES)
    assert told.mechanism is Mechanism.NONE
    assert ("cannot be told here: gap" in told.rule) == said
    assert ("four times in five" in told.rule) != said


def test_what_is_not_defined_cannot_be_told() -> None:
    nothing = Estimate(float("nan"), np.zeros(PROBLEMS), 0, 0)
    undefined = mechanism.Tested(nothing, nothing, nothing)
    for name, wanted in (("a gap", Mechanism.SSD), ("tokens", Mechanism.GENERIC)):
        given, _ = CASES[name]
        figures = {**given.figures, "slope": undefined}
        told = verdict(replace(given, figures=figures), rules=RULES)
        assert told.mechanism is wanted
        assert told.rule.endswith("; cannot be told here: slope")


def test_nothing_told_says_what_could_have_been() -> None:
    told = verdict(flat(), rules=RULES)
    least = least_gap_found(flat(), RULES)
    assert f"from {least:.2g} nats" in told.rule
    # A gap of that size is told four times in five, beyond both nulls and by Holm's first step.
    gap, rng = flat().figures["gap"], np.random.default_rng(0)
    told_of = 0
    for value in rng.normal(-least, gap.beyond[0].error, size=400):
        seen = replace(gap, own=replace(gap.own, value=value))
        told_of += seen.p_value * len(FAMILY) <= RULES.level
    assert 0.72 < told_of / 400 < 0.88
    nothing = Estimate(float("nan"), np.zeros(PROBLEMS), 0, 0)
    untested = mechanism.Tested(nothing, nothing, nothing)
    none = replace(
        flat(),
        figures=dict.fromkeys(FIGURES, untested),
        temperature=replace(flat().temperature, share=nothing),
        tokens=Consistency(float("nan"), float("nan"), float("nan"), 1.0),
    )
    told = verdict(none, rules=RULES)
    assert told.mechanism is Mechanism.NONE
    assert "nothing can be tested" in told.rule


def test_a_figure_between_its_nulls_tells_nothing() -> None:
    tested = mechanism.Tested(
        estimate(0.1, error=1e-3), estimate(0.0, error=1e-6), estimate(0.2, error=1e-6)
    )
    assert tested.p_value == 1.0
    nearer = replace(tested, drift=estimate(0.099, error=1e-6))
    assert nearer.p_value == pytest.approx(nearer.beyond[1].p_value())
    assert nearer.p_value > 0.3


def test_p_values_are_adjusted_over_the_family() -> None:
    given = with_figure(flat(), "gap", GAP)
    raw = given.figures["gap"].p_value
    assert adjusted_p_values(given)["gap"] == pytest.approx(len(FAMILY) * raw)
