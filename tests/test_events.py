"""Events: exactly one per position, those of the worked tables, and a slow reference."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages_run import PagesRun
from rows import distributions_of_models
from test_kinds import WORKED, worked_rows

from probing.analysis.decoding import statistics
from probing.analysis.deltas import DELTA_NAMES, statistic_deltas
from probing.analysis.events import (
    CODES,
    SYMMETRIC,
    LeadingWords,
    LexiconTokens,
    PairKinds,
    close_places,
    events,
    leading_words,
    same_top1,
    signs,
)
from probing.analysis.kinds import CODES as KIND_CODES
from probing.analysis.kinds import kinds
from probing.analysis.ranking import leading_ids
from probing.analysis.transitions import transition_shares
from probing.lexicon import SELF_CORRECTION, THINK_CLOSE, Lexicon, candidate_word
from probing.settings import KIND_PRESETS, Decoding, KindRule
from probing.store.reader import Run
from probing.store.words import (
    begins_within,
    lexicon_tokens,
    realised_corrections,
    shared_prefix,
)
from probing.vocabulary import PADDING_ID, Event, Kind

NO_TOKENS = 12
"""Vocabulary of the random rows: all of it is among the candidates."""


WORDS = ("top1_corrects", "close_corrects", "close_ends")
"""What leading tokens can mean."""


@dataclass(frozen=True)
class Pair:
    """Two models' rows over a small vocabulary."""

    baseline: np.ndarray
    other: np.ndarray

    def kinds_and_words(
        self, tokens: LexiconTokens, rule: KindRule
    ) -> tuple[list[np.ndarray], list[LeadingWords], list[np.ndarray]]:
        """Kind codes of baseline, other and mean; leading words and entropies of the two."""
        rows = distributions_of_models([self.baseline, self.other], top_k=NO_TOKENS)
        stats = [statistics(one, decoding=Decoding(), rule=rule) for one in rows]
        words = [leading_words(one, tokens=tokens, temperature=1.0, rule=rule) for one in rows[:2]]
        return (
            [kinds(one, rule=rule) for one in stats],
            words,
            [one.entropy_nats for one in stats[:2]],
        )


def masks(*, corrections: list[int] = [], closes: list[int] = []) -> LexiconTokens:  # noqa: B006
    """Never written to."""
    found = [np.isin(np.arange(NO_TOKENS), ids) for ids in (corrections, closes)]
    return LexiconTokens(self_correction=found[0], think_close=found[1])


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    """Rows from flat to sharp, on a coarse grid so that ties occur, often alike."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.5, 1.5, 3.0, 6.0]))
    baseline = np.round(scale * rng.normal(size=(40, NO_TOKENS)) * 2) / 2
    change = np.round(draw(st.sampled_from([0.0, 0.5, 3.0])) * rng.normal(size=baseline.shape))
    return Pair(baseline.astype(np.float32), (baseline + change).astype(np.float32))


@dataclass(frozen=True)
class Facts:
    """What section 6 asks about one position."""

    assigned: Kind
    before: Kind
    after: Kind
    same: bool
    top: bool
    torn: bool
    close: bool
    entropy_fell: bool


def slow_event(facts: Facts) -> Event:
    """Section 6 for one position, in its order."""
    if facts.assigned is Kind.LOCK:
        return slow_lock_event(facts)
    if facts.assigned is Kind.FORK:
        return slow_fork_event(facts)
    if facts.after is Kind.LOCK:
        return Event.SHARPENED
    if facts.after is Kind.FORK:
        return Event.OPENED
    if facts.before in {Kind.LOCK, Kind.FORK}:
        return Event.SHARPENED if facts.entropy_fell else Event.OPENED
    return Event.UNCHANGED if facts.before is facts.after else Event.DRIFTED


def slow_lock_event(facts: Facts) -> Event:
    both = facts.before is Kind.LOCK and facts.after is Kind.LOCK
    if facts.top or facts.torn:
        return Event.SELF_CORRECTION
    if not facts.same and both:
        return Event.SWAP
    if facts.after is not Kind.LOCK:
        return Event.SOFTENED if facts.same else Event.UNLOCKED
    return Event.STRICT_LOCK if both else Event.SHARPENED


def slow_fork_event(facts: Facts) -> Event:
    if facts.close:
        return Event.FAILURE_TO_COMMIT
    if facts.after is Kind.LOCK:
        return Event.COLLAPSED
    if facts.after is not Kind.FORK:
        return Event.DISSOLVED
    return Event.TRUE_FORK if facts.before is Kind.FORK else Event.OPENED


def slow_close(row: np.ndarray, rule: KindRule) -> set[int]:
    """Ids with at least a quarter of the largest probability, among the ten best (ties all in)."""
    tenth = np.sort(row)[::-1][: rule.close_among][-1]
    return {
        i
        for i, logit in enumerate(row)
        if logit >= tenth and np.exp(float(logit) - float(row.max())) >= rule.close_ratio
    }


LOCK_EVENTS = {"self-correction", "swap", "unlocked", "softened", "strict lock", "sharpened"}
FORK_EVENTS = {"failure to commit", "collapsed", "true fork", "dissolved", "opened"}
OTHER_EVENTS = {"sharpened", "opened", "drifted", "unchanged"}


@given(
    pairs(),
    st.lists(st.integers(0, NO_TOKENS - 1), max_size=2),
    st.lists(st.integers(0, NO_TOKENS - 1), max_size=1),
    st.sampled_from(["baseline", "other", "mean"]),
    st.sampled_from(list(KIND_PRESETS)),
)
def test_every_position_gets_the_one_event_of_the_slow_reference(
    pair: Pair, corrections: list[int], closes: list[int], assignment: str, preset: str
) -> None:
    rule = KIND_PRESETS[preset]
    if rule.fork_entropy_share:
        rule = replace(rule, fork_entropy=1.0)
    codes, words, entropies = pair.kinds_and_words(
        masks(corrections=corrections, closes=closes), rule
    )
    realised = np.arange(len(pair.baseline)) % 11 == 3
    assigned = codes[["baseline", "other", "mean"].index(assignment)]
    found = events(
        PairKinds(assigned, codes[0], codes[1]),
        signs(words[0], words[1], realised_correction=realised),
        entropy_change=entropies[1] - entropies[0],
    )
    names = list(Kind)
    for i, (a, b) in enumerate(zip(pair.baseline, pair.other, strict=True)):
        tops = [set(np.flatnonzero(row == row.max())) for row in (a, b)]
        near = [slow_close(row, rule) for row in (a, b)]
        facts = Facts(
            names[assigned[i]],
            names[codes[0][i]],
            names[codes[1][i]],
            same=bool(tops[0] & tops[1]),
            top=bool(realised[i]) or bool((tops[0] | tops[1]) & set(corrections)),
            torn=any(one & set(corrections) and one & set(closes) for one in near),
            close=any(one & (set(corrections) | set(closes)) for one in near),
            entropy_fell=entropies[1][i] < entropies[0][i],
        )
        expected = slow_event(facts)
        assert list(Event)[found[i]] is expected
        allowed = {Kind.LOCK: LOCK_EVENTS, Kind.FORK: FORK_EVENTS}
        assert expected.value in allowed.get(names[assigned[i]], OTHER_EVENTS)


@given(pairs())
def test_a_model_against_itself_has_no_event_but_staying(pair: Pair) -> None:
    codes, words, _ = Pair(pair.baseline, pair.baseline).kinds_and_words(masks(), KindRule())
    for assigned in codes:
        found = events(
            PairKinds(assigned, codes[0], codes[1]),
            signs(words[0], words[1], realised_correction=np.zeros(len(assigned), dtype=bool)),
            entropy_change=np.zeros(len(assigned)),
        )
        staying = {Kind.LOCK: Event.STRICT_LOCK, Kind.FORK: Event.TRUE_FORK}
        wanted = [staying.get(list(Kind)[kind], Event.UNCHANGED) for kind in assigned]
        assert [list(Event)[code] for code in found] == wanted


def test_exactly_the_symmetric_events_survive_an_exchange_of_roles() -> None:
    rng, size = np.random.default_rng(0), 60_000
    first, second = (
        LeadingWords(
            top1=np.eye(3, dtype=bool)[rng.integers(3, size=size)],
            **{name: rng.random(size) < 0.1 for name in WORDS},
        )
        for _ in range(2)
    )
    assigned, one, two = rng.integers(len(Kind), size=(3, size))
    realised, moved = rng.random(size) < 0.1, rng.choice([-0.5, 0.5], size=size)
    found = events(
        PairKinds(assigned, one, two),
        signs(first, second, realised_correction=realised),
        entropy_change=moved,
    )
    back = events(
        PairKinds(assigned, two, one),
        signs(second, first, realised_correction=realised),
        entropy_change=-moved,
    )
    changed = {list(Event)[code] for code in found[found != back]}
    assert changed == {*Event} - SYMMETRIC


@given(pairs(), st.integers(0, 2**32 - 1))
def test_swapping_the_models_mirrors_transitions_and_flips_deltas(pair: Pair, seed: int) -> None:
    swapped = Pair(pair.other, pair.baseline)
    weights = np.random.default_rng(seed).random(len(pair.baseline))
    one, other = (p.kinds_and_words(masks(), KindRule())[0] for p in (pair, swapped))
    shares = transition_shares(one[0], one[1], weights=weights)
    assert shares.sum() == pytest.approx(1)
    back = transition_shares(other[0], other[1], weights=weights)
    np.testing.assert_allclose(back, shares.T, rtol=1e-12)
    rows = distributions_of_models([pair.baseline, pair.other], top_k=NO_TOKENS)
    stats = [statistics(each, decoding=Decoding(), rule=KindRule()) for each in rows[:2]]
    forth, reverse = statistic_deltas(*stats), statistic_deltas(*stats[::-1])
    assert forth.names == DELTA_NAMES
    np.testing.assert_array_equal(forth.values, -reverse.values)


def test_transition_shares_without_weight_are_not_measured() -> None:
    codes = np.zeros(3, dtype=np.int8)
    assert np.isnan(transition_shares(codes, codes, weights=np.zeros(3))).all()


@given(pairs())
def test_a_tied_first_token_in_common_is_the_same(pair: Pair) -> None:
    _, words, _ = pair.kinds_and_words(masks(), KindRule())
    expected = [
        bool(set(np.flatnonzero(a == a.max())) & set(np.flatnonzero(b == b.max())))
        for a, b in zip(pair.baseline, pair.other, strict=True)
    ]
    assert same_top1(*words).tolist() == expected


@given(pairs(), st.sampled_from([0.25, 0.8]), st.sampled_from([0.5, 1.0, 1.7]))
def test_close_places_are_what_the_statistic_counts(
    pair: Pair, ratio: float, temperature: float
) -> None:
    rule = KindRule(close_ratio=ratio, close_among=NO_TOKENS)
    rows = distributions_of_models([pair.baseline], top_k=NO_TOKENS)[0]
    counted = statistics(rows, decoding=Decoding(temperature=temperature), rule=rule).close_tokens
    places = close_places(rows, temperature=temperature, rule=rule)
    np.testing.assert_array_equal(places.sum(axis=1), counted)


WORKED_EVENTS = {
    "boxed": Event.STRICT_LOCK,
    "wait": Event.SELF_CORRECTION,
    "commit": Event.FAILURE_TO_COMMIT,
    "let": Event.TRUE_FORK,
}


@pytest.mark.parametrize("name", WORKED)
def test_worked_tables_get_their_events(name: str) -> None:
    rule, lexicon = KIND_PRESETS["post"], Lexicon.load()
    words = sorted(WORKED[name][0] | WORKED[name][1])
    rows = distributions_of_models(worked_rows(name), top_k=60)
    size = worked_rows(name)[0].shape[1]
    texts = [*words, *([""] * (size - len(words)))]
    tokens = LexiconTokens(
        self_correction=np.isin(texts, lexicon.one_word_entries(SELF_CORRECTION)),
        think_close=np.isin(texts, lexicon.one_word_entries(THINK_CLOSE)),
    )
    stats = [statistics(each, decoding=Decoding(), rule=rule) for each in rows[:2]]
    codes = [kinds(each, rule=rule) for each in stats]
    first, second = (
        leading_words(each, tokens=tokens, temperature=1.0, rule=rule) for each in rows[:2]
    )
    found = events(
        PairKinds(codes[0], codes[0], codes[1]),
        signs(first, second, realised_correction=np.zeros(1, dtype=bool)),
        entropy_change=stats[1].entropy_nats - stats[0].entropy_nats,
    )
    assert found.tolist() == [CODES[WORKED_EVENTS[name]]]
    assert found.tolist() != [CODES[Event.UNCHANGED]]
    assert codes[0].tolist() == [KIND_CODES[Kind.LOCK if name in {"boxed", "wait"} else Kind.FORK]]
    leading = [words[i] for i in leading_ids(rows[0], count=2)[0]]
    begins = leading[0].startswith(leading[1]) or leading[1].startswith(leading[0])
    assert begins == (name == "boxed")


def test_leading_ids_are_the_largest_that_are_known() -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(30, 50)).astype(np.float32)
    rows = distributions_of_models([logits], top_k=3)[0]
    expected = np.argsort(-logits, axis=1)[:, :3]
    np.testing.assert_array_equal(leading_ids(rows, count=3), expected)
    assert (leading_ids(rows, count=5)[:, 3:] == PADDING_ID).all()


def test_lexicon_tokens_are_those_whose_text_equals_an_entry(written: PagesRun, run: Run) -> None:
    tokens, lexicon = lexicon_tokens(run), Lexicon.load()
    entries = lexicon.one_word_entries(SELF_CORRECTION)
    texts = [raw.decode(errors="backslashreplace") for raw in written.vocabulary]
    found = [candidate_word(text) in entries for text in texts]
    assert tokens.self_correction.tolist() == found
    assert any(found)
    closes = [candidate_word(text) == "</think>" for text in texts]
    assert tokens.think_close.tolist() == closes
    assert any(closes)


def test_realised_corrections_begin_in_the_token(run: Run) -> None:
    lexicon, positions = Lexicon.load(), run.positions()
    expected = [
        any(
            start <= match.start < end
            for match in lexicon.matches(run.response_text(carrier), group=SELF_CORRECTION)
        )
        for carrier, start, end in zip(
            positions.carrier.tolist(),
            positions.char_start.tolist(),
            positions.char_end.tolist(),
            strict=True,
        )
    ]
    assert realised_corrections(run).tolist() == expected
    assert any(expected)
    assert not all(expected)


@given(st.lists(st.integers(0, 12), max_size=6), st.lists(st.integers(0, 4), max_size=8))
def test_a_match_begins_in_one_token_alone(starts: list[int], lengths: list[int]) -> None:
    ends = np.cumsum([0, *lengths])
    found = begins_within(np.array(sorted(starts), dtype=np.int64), begin=ends[:-1], end=ends[1:])
    spans = zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    assert found.tolist() == [any(b <= start < e for start in starts) for b, e in spans]


def test_a_shared_prefix_is_one_token_beginning_the_other(run: Run) -> None:
    ids = np.random.default_rng(3).integers(-1, run.manifest.vocabulary_size, size=(400, 2))
    ids[:40, 1] = ids[:40, 0]
    expected = []
    for first, second in ids.tolist():
        one, two = run.token_bytes([first, second])
        known = first >= 0 and second >= 0 and one != b"" and two != b""
        expected.append(known and (one.startswith(two) or two.startswith(one)))
    assert shared_prefix(run, ids).tolist() == expected
    assert 40 <= sum(expected) < 400
