"""Kinds: exactly one per distribution, and the labels of four worked tables."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import distributions_of, distributions_of_models

from probing.analysis.decoding import Statistics, statistics
from probing.analysis.kinds import CODES, assigned_kinds, kinds, with_entropy_cut
from probing.settings import KIND_PRESETS, Decoding, KindRule
from probing.vocabulary import Assignment, Kind

VOCABULARY = 200
RATIO = 0.9

Listed = dict[str, float]

WORKED: dict[str, tuple[Listed, Listed, dict[Assignment, Kind]]] = {
    "boxed": (
        {"{": 0.5268, "{-": 0.4649, "`.": 0.0075144, "{}": 0.00037412, "`": 0.00012146},
        {"{": 0.79383, "{-": 0.20071, "`.": 0.0041657, "{}": 0.00082027, "{}.": 0.0002074},
        dict.fromkeys(Assignment, Kind.LOCK),
    ),
    "wait": (
        {"Wait": 0.62804, "</think>": 0.15879, "Or": 0.075009, "I": 0.045495, "The": 0.045495},
        {"</think>": 0.43923, "Wait": 0.38762, "Or": 0.059443, "The": 0.052458, "I": 0.036054},
        {Assignment.BASELINE: Kind.LOCK, Assignment.OTHER: Kind.FORK},
    ),
    "commit": (
        {"</think>": 0.2174, "I": 0.19185, "The": 0.13186, "If": 0.13186, "Also": 0.070579},
        {"</think>": 0.40585, "I": 0.14931, "If": 0.11628, "The": 0.10262, "Also": 0.06224},
        dict.fromkeys(Assignment, Kind.FORK),
    ),
    "let": (
        {"Let": 0.22876, "Subtract": 0.12245, "Sometimes": 0.095362, "The": 0.084157,
         "We": 0.084157},
        {"Let": 0.31029, "We": 0.11415, "Sometimes": 0.10074, "The": 0.088901,
         "Subtract": 0.078455},
        dict.fromkeys(Assignment, Kind.FORK),
    ),
}  # fmt: skip
"""The leading five under the baseline and the trained model, and the kind by each assignment."""


def worked_rows(name: str) -> list[np.ndarray]:
    """Full rows of both models: what is not listed shares the rest geometrically from rank 6."""
    words = sorted(WORKED[name][0] | WORKED[name][1])
    return [full_row(listed, words) for listed in WORKED[name][:2]]


def full_row(listed: Listed, words: list[str]) -> np.ndarray:
    rest = RATIO ** np.arange(VOCABULARY - len(listed))
    unlisted = iter(rest / rest.sum() * (1 - sum(listed.values())))
    masses = [listed[word] if word in listed else next(unlisted) for word in words]
    return np.log([*masses, *unlisted]).astype(np.float32)[None, :]


def worked_statistics(name: str, *, top_k: int, rule: KindRule) -> list[Statistics]:
    """Under the baseline, the trained model and their mean."""
    rows = distributions_of_models(worked_rows(name), top_k=top_k)
    return [statistics(each, decoding=Decoding(), rule=rule) for each in rows]


@pytest.mark.parametrize("top_k", [60, VOCABULARY])
@pytest.mark.parametrize("name", WORKED)
def test_worked_tables_get_their_kinds(name: str, top_k: int) -> None:
    rule = KIND_PRESETS["post"]
    stats = worked_statistics(name, top_k=top_k, rule=rule)
    for assignment, wanted in WORKED[name][2].items():
        got = assigned_kinds(*stats, assignment=assignment, rule=rule)
        assert got.tolist() == [CODES[wanted]], assignment


def test_the_delta_of_the_first_worked_table() -> None:
    baseline, trained, _ = worked_statistics("boxed", top_k=60, rule=KindRule())
    assert trained.top1_prob[0] - baseline.top1_prob[0] == pytest.approx(0.267, abs=5e-4)
    assert trained.top1_id[0] == baseline.top1_id[0]


def test_codes_are_places_in_the_list_of_kinds() -> None:
    assert [list(Kind)[code] for code in CODES.values()] == list(CODES)


def definition(stats: Statistics, position: int, rule: KindRule) -> Kind:
    leads = stats.top1_prob[position] >= rule.lock_top1
    tail = stats.tail_mass[position]
    if leads and stats.nucleus_size[position] <= rule.lock_nucleus and tail <= rule.lock_tail:
        return Kind.LOCK
    if rule.fork_entropy is not None:
        if stats.entropy_nats[position] >= rule.fork_entropy:
            return Kind.FORK
        return Kind.DIFFUSE if tail > rule.fork_tail else Kind.MIXED
    several = stats.close_tokens[position] >= rule.fork_close_tokens
    if not leads and several and tail <= rule.fork_tail:
        return Kind.FORK
    return Kind.DIFFUSE if tail > rule.fork_tail else Kind.MIXED


rules = st.builds(
    replace,
    st.sampled_from(list(KIND_PRESETS.values())),
    lock_top1=st.floats(0.2, 0.9),
    lock_nucleus=st.integers(1, 10),
    lock_tail=st.floats(0, 0.3),
    fork_tail=st.floats(0, 0.5),
    fork_close_tokens=st.integers(1, 5),
)


@given(st.integers(0, 2**32), rules, st.floats(0.3, 8))
def test_kinds_follow_the_definition_one_by_one(seed: int, rule: KindRule, scale: float) -> None:
    full = np.random.default_rng(seed).normal(scale=scale, size=(40, 120)).astype(np.float32)
    stats = statistics(distributions_of(full, top_k=60), decoding=Decoding(), rule=rule)
    rule = with_entropy_cut(rule, entropy_nats=stats.entropy_nats, weights=np.ones(40))
    got = kinds(stats, rule=rule)
    assert got.dtype == np.int8
    wanted = [CODES[definition(stats, position, rule)] for position in range(40)]
    assert got.tolist() == wanted


def test_every_kind_is_met_and_thresholds_belong_to_the_better_side() -> None:
    made = statistics(
        distributions_of(np.zeros((5, 3), dtype=np.float32), top_k=3),
        decoding=Decoding(),
        rule=KindRule(),
    )
    stats = replace(
        made,
        top1_prob=np.array([0.5, 0.499, 0.6, 0.6, 0.3]),
        nucleus_size=np.array([5.0, 3.0, np.inf, 2.0, 9.0]),
        tail_mass=np.array([0.05, 0.15, 0.04, 0.16, np.nan]),
        close_tokens=np.array([1.0, 2.0, 1.0, 1.0, 4.0]),
    )
    wanted = [Kind.LOCK, Kind.FORK, Kind.MIXED, Kind.DIFFUSE, Kind.MIXED]
    assert kinds(stats, rule=KindRule()).tolist() == [CODES[kind] for kind in wanted]


def test_each_assignment_asks_its_own_distribution() -> None:
    rng = np.random.default_rng(3)
    a = rng.normal(scale=4, size=(200, 80)).astype(np.float32)
    b = (a + rng.normal(scale=2, size=a.shape)).astype(np.float32)
    rows = distributions_of_models([a, b], top_k=40)
    stats = [statistics(each, decoding=Decoding(), rule=KindRule()) for each in rows]
    by = {
        assignment: assigned_kinds(*stats, assignment=assignment, rule=KindRule())
        for assignment in Assignment
    }
    order = [Assignment.BASELINE, Assignment.OTHER, Assignment.MEAN]
    for assignment, own in zip(order, stats, strict=True):
        np.testing.assert_array_equal(by[assignment], kinds(own, rule=KindRule()))
    assert (by[Assignment.BASELINE] != by[Assignment.OTHER]).any()
    assert (by[Assignment.MEAN] != by[Assignment.OTHER]).any()


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.9))
def test_the_cut_leaves_its_share_of_the_weight_above(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    entropy, weights = rng.gamma(2, size=50), rng.uniform(0, 3, size=50)
    entropy[rng.random(50) < 0.1] = np.nan
    weights[rng.random(50) < 0.2] = 0
    rule = replace(KIND_PRESETS["entropy"], fork_entropy_share=share)
    cut = with_entropy_cut(rule, entropy_nats=entropy, weights=weights).fork_entropy
    counted = np.isfinite(entropy) & (weights > 0)
    total = weights[counted].sum()
    assert weights[counted & (entropy >= cut)].sum() >= share * total - 1e-9
    assert weights[counted & (entropy > cut)].sum() < share * total + 1e-9


def test_a_cut_once_taken_stays_and_other_rules_need_none() -> None:
    entropy, weights = np.arange(10.0), np.ones(10)
    taken = with_entropy_cut(KIND_PRESETS["entropy"], entropy_nats=entropy, weights=weights)
    assert taken.fork_entropy == 8.0
    assert with_entropy_cut(taken, entropy_nats=entropy / 2, weights=weights) == taken
    post = KIND_PRESETS["post"]
    assert with_entropy_cut(post, entropy_nats=entropy, weights=weights) is post


def test_without_weight_nothing_is_a_fork_by_entropy() -> None:
    full = np.random.default_rng(0).normal(size=(30, 60)).astype(np.float32)
    rule = KIND_PRESETS["entropy"]
    stats = statistics(distributions_of(full, top_k=60), decoding=Decoding(), rule=rule)
    cut = with_entropy_cut(rule, entropy_nats=stats.entropy_nats, weights=np.zeros(30))
    assert CODES[Kind.FORK] not in kinds(stats, rule=cut)


def test_a_lock_stays_one_however_much_entropy_it_has() -> None:
    full = np.random.default_rng(0).normal(scale=6, size=(60, 80)).astype(np.float32)
    rule = replace(KIND_PRESETS["post"], fork_entropy_share=0.2, fork_entropy=0.0)
    stats = statistics(distributions_of(full, top_k=80), decoding=Decoding(), rule=rule)
    by_post = kinds(stats, rule=KIND_PRESETS["post"])
    wanted = np.where(by_post == CODES[Kind.LOCK], CODES[Kind.LOCK], CODES[Kind.FORK])
    assert len(np.unique(wanted)) == 2
    assert kinds(stats, rule=rule).tolist() == wanted.tolist()


def test_forks_by_entropy_without_a_cut_are_refused() -> None:
    made = statistics(
        distributions_of(np.zeros((5, 3), dtype=np.float32), top_k=3),
        decoding=Decoding(),
        rule=KindRule(),
    )
    with pytest.raises(ValueError, match="need a cut"):
        kinds(made, rule=KIND_PRESETS["entropy"])
