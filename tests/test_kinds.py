"""Kinds: exactly one per distribution, and the labels of four worked tables."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import stored

from probing.analysis.decoding import statistics
from probing.analysis.kinds import KINDS, assigned_kinds, kinds
from probing.settings import KIND_PRESETS, Decoding, KindRule
from probing.vocabulary import Assignment, Kind

UNLISTED = 200
RATIO = 0.9

WORKED = {
    "boxed": ({"{": 0.5268, "{-": 0.4649, "`.": 0.0075144, "{}": 0.00037412, "`": 0.00012146},
              {"{": 0.79383, "{-": 0.20071, "`.": 0.0041657, "{}": 0.00082027, "{}.": 0.0002074},
              Assignment.MEAN, Kind.LOCK),
    "wait": ({"Wait": 0.62804, "</think>": 0.15879, "Or": 0.075009, "I": 0.045495, "The": 0.045495},
             {"</think>": 0.43923, "Wait": 0.38762, "Or": 0.059443, "The": 0.052458, "I": 0.036054},
             Assignment.BASELINE, Kind.LOCK),
    "commit": ({"</think>": 0.2174, "I": 0.19185, "The": 0.13186, "If": 0.13186, "Also": 0.070579},
               {"</think>": 0.40585, "I": 0.14931, "If": 0.11628, "The": 0.10262, "Also": 0.06224},
               Assignment.MEAN, Kind.FORK),
    "let": ({"Let": 0.22876, "Subtract": 0.12245, "Sometimes": 0.095362, "The": 0.084157,
             "We": 0.084157},
            {"Let": 0.31029, "We": 0.11415, "Sometimes": 0.10074, "The": 0.088901,
             "Subtract": 0.078455},
            Assignment.MEAN, Kind.FORK),
}  # fmt: skip
"""Baseline and trained top five, the assignment they are labelled by, and the label."""


def worked_rows(name: str) -> list[np.ndarray]:
    """Full rows of both models: the listed ids, then 200 more that share the rest geometrically."""
    baseline, trained, _, _ = WORKED[name]
    words = sorted(baseline | trained)
    return [_row(listed, words)[None, :] for listed in (baseline, trained)]


def _row(listed: dict[str, float], words: list[str]) -> np.ndarray:
    rest = RATIO ** np.arange(UNLISTED - len(listed) + len(words))
    rest = rest / rest.sum() * (1 - sum(listed.values()))
    unlisted = iter(rest)
    masses = [listed[word] if word in listed else next(unlisted) for word in words]
    return np.log(np.array([*masses, *unlisted])).astype(np.float32)


@pytest.mark.parametrize("name", WORKED)
def test_worked_tables_get_their_kinds(name: str) -> None:
    rule = KIND_PRESETS["post"]
    rows = stored(worked_rows(name), top_k=300).distributions
    stats = [statistics(row, decoding=Decoding(), rule=rule) for row in rows]
    _, _, assignment, want = WORKED[name]
    got = assigned_kinds(*stats, assignment=assignment, rule=rule)
    assert [KINDS[code] for code in got] == [want]


def test_the_first_worked_table_s_top1_delta() -> None:
    rows = stored(worked_rows("boxed"), top_k=300).distributions
    baseline, trained, _ = (
        statistics(row, decoding=Decoding(), rule=KindRule()).top1_prob for row in rows
    )
    assert trained[0] - baseline[0] == pytest.approx(0.267, abs=5e-4)


@given(st.integers(0, 2**32), st.sampled_from(sorted(KIND_PRESETS)), st.floats(0.3, 8))
def test_kinds_follow_the_definition_one_by_one(seed: int, preset: str, scale: float) -> None:
    rule = KIND_PRESETS[preset]
    full = np.random.default_rng(seed).normal(scale=scale, size=(40, 120)).astype(np.float32)
    stats = statistics(stored([full], top_k=60).distributions[0], decoding=Decoding(), rule=rule)
    codes = kinds(stats, rule=rule)
    for i, code in enumerate(codes):
        confident = stats.top1_prob[i] >= rule.lock_top1
        if (
            confident
            and stats.nucleus_size[i] <= rule.lock_nucleus
            and (stats.tail_mass[i] <= rule.lock_tail)
        ):
            want = Kind.LOCK
        elif not confident and stats.close_tokens[i] >= 2 and stats.tail_mass[i] <= rule.fork_tail:
            want = Kind.FORK
        elif stats.tail_mass[i] > rule.fork_tail:
            want = Kind.DIFFUSE
        else:
            want = Kind.MIXED
        assert KINDS[code] is want
