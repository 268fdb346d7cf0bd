"""Positions: the alignment, each selector against its definition, inclusion, phases, seeding."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_tokenizers import byte_level, load

from probing.carriers.record import Carrier
from probing.errors import UsageFault
from probing.lexicon import Lexicon
from probing.positions.seeding import carrier_rng
from probing.positions.select import inclusion_probability, select_positions, selector_names
from probing.positions.selected import SelectedPositions
from probing.settings import Selection
from probing.tokens.adapter import TokenizerAdapter
from probing.tokens.encoded import EncodedCarrier
from probing.tokens.text import token_text
from probing.vocabulary import Phase, Selector, Template

LEXICON = Lexicon.load()
NAMES = selector_names(LEXICON)
OFF = Selection(interval_every=0, random_count=0, marker_window=-1)


def in_tokens(*tokens: str, prompt: int = 3, carrier_id: str = "c") -> EncodedCarrier:
    """A carrier whose response tokens are these strings; prompt tokens have ids 900 and up."""
    ends = np.cumsum([len(token) for token in tokens])
    starts = ends - np.array([len(token) for token in tokens])
    return EncodedCarrier(
        carrier_id=carrier_id,
        token_ids=np.array([*range(900, 900 + prompt), *range(len(tokens))], dtype=np.int32),
        response_start=prompt,
        char_spans=np.stack([starts, ends], axis=1),
        response_text="".join(tokens),
        seam_moved=False,
    )


def choose(
    encoded: EncodedCarrier, selection: Selection, *, seed: int = 0, lexicon: Lexicon = LEXICON
) -> SelectedPositions:
    rng = carrier_rng(seed, encoded.carrier_id)
    return select_positions(encoded, selection=selection, lexicon=lexicon, rng=rng)


def by_selector(chosen: SelectedPositions, name: str) -> list[int]:
    bit = np.uint32(1 << NAMES.index(name))
    return chosen.position[(chosen.selectors & bit) != 0].tolist()


def markers(group: str, *tokens: str, window: int = 0) -> list[int]:
    selection = Selection(interval_every=0, random_count=0, marker_window=window)
    return by_selector(choose(in_tokens(*tokens), selection), group)


def test_selectors_are_named_in_order_of_their_bits() -> None:
    assert ("interval", "random", "all", *LEXICON.groups) == NAMES


# The alignment:
#
#     token_ids    p0 p1 p2 | y0 y1 y2 ...      response_start = 3
#     logits row    0  1  2 |  3  4  5 ...      row r predicts token r + 1
#     position i    -  -  - |  0  1  2 ...      y_i is predicted by row response_start + i - 1


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> TokenizerAdapter:
    return load(byte_level(over_words=False), tmp_path_factory.mktemp("tokenizer"))


@given(
    prompt=st.sampled_from(["Wait. Let x", "hello</think>", "é"]),
    response=st.lists(
        st.sampled_from([" Wait", ",", " Let x", " é🙂", "\n\n", " Letter", "</think>", "hello"]),
        min_size=1,
        max_size=12,
    ).map("".join),
)
def test_a_position_is_its_token_and_the_row_before_predicts_it(
    adapter: TokenizerAdapter, prompt: str, response: str
) -> None:
    record = Carrier(
        carrier_id="c",
        problem_id="p",
        generator="g",
        prompt=prompt,
        response=response,
        template=Template.ALREADY_APPLIED,
    )
    encoded = adapter.encode(record)
    chosen = choose(encoded, Selection(all_positions=True))
    # Never the prompt: as many positions as tokens that spell the response, and no more.
    count = len(encoded.token_ids) - encoded.response_start
    assert chosen.position.tolist() == list(range(count))
    pieces = adapter.token_bytes(encoded.token_ids.tolist())
    assert b"".join(pieces[encoded.response_start :]).decode() == response
    for i in chosen.position.tolist():
        row = encoded.response_start + i - 1
        predicted = row + 1  # a causal model's row r is about token r + 1
        start, end = encoded.char_spans[i]
        if "�" not in token_text(pieces[predicted]):
            assert response[start:end] == token_text(pieces[predicted])
    # A marker's position is the token that spells the marker, not its neighbour.
    for group, word in (("self_correction", "Wait"), ("think_close", "</think>")):
        for i in by_selector(chosen, group):
            rest = b"".join(pieces[encoded.response_start + i :]).decode()
            assert rest.removeprefix(" ").startswith(word)
        assert len(by_selector(chosen, group)) == len(LEXICON.matches(response, group=group))


# Interval and random


@given(length=st.integers(1, 60), every=st.integers(1, 20), seed=st.integers(0, 1000))
def test_interval_takes_every_nth_token_from_a_random_phase(
    length: int, every: int, seed: int
) -> None:
    selection = Selection(interval_every=every, random_count=0, marker_window=-1)
    chosen = choose(in_tokens(*"x" * length), selection, seed=seed)
    positions = by_selector(chosen, Selector.INTERVAL)
    phase = positions[0] if positions else length
    assert positions == list(range(phase, length, every))
    assert phase < every or not positions
    if length >= every:
        assert positions


def test_interval_phases_are_uniform_over_carriers() -> None:
    selection = Selection(interval_every=4, random_count=0, marker_window=-1)
    phases = Counter(
        int(choose(in_tokens(*"x" * 4, carrier_id=f"c{i}"), selection).position[0])
        for i in range(2000)
    )
    assert sorted(phases) == [0, 1, 2, 3]
    # Five standard errors of a share of 1/4 among 2,000.
    assert all(abs(count - 500) < 5 * np.sqrt(2000 * 0.25 * 0.75) for count in phases.values())


@given(length=st.integers(1, 60), count=st.integers(0, 80), seed=st.integers(0, 1000))
def test_random_takes_m_tokens_without_replacement(length: int, count: int, seed: int) -> None:
    selection = Selection(interval_every=0, random_count=count, marker_window=-1)
    chosen = choose(in_tokens(*"x" * length), selection, seed=seed)
    positions = by_selector(chosen, Selector.RANDOM)
    assert len(positions) == len(set(positions)) == min(count, length)
    assert positions == sorted(positions)


@pytest.mark.parametrize(
    ("every", "count", "length", "expected"),
    [(4, 3, 20, 1 - 0.75 * 0.85), (4, 0, 20, 0.25), (0, 3, 20, 0.15), (0, 0, 20, 0.0),
     (1, 0, 20, 1.0), (7, 50, 20, 1.0), (0, 50, 20, 1.0)],
)  # fmt: skip
def test_inclusion_probability(every: int, count: int, length: int, expected: float) -> None:
    selection = Selection(interval_every=every, random_count=count, marker_window=0)
    assert inclusion_probability(length, selection=selection) == pytest.approx(expected, abs=1e-15)
    chosen = choose(in_tokens(*["Wait", *"x" * (length - 1)]), selection)
    assert np.all(chosen.inclusion == inclusion_probability(length, selection=selection))


@pytest.mark.parametrize(("every", "count"), [(4, 3), (5, 0), (0, 2), (3, 40)])
def test_inclusion_probability_is_the_share_of_draws_that_choose_a_token(
    every: int, count: int
) -> None:
    length, draws = 11, 4000
    selection = Selection(interval_every=every, random_count=count, marker_window=-1)
    encoded = in_tokens(*"x" * length)
    taken = np.zeros(length)
    for seed in range(draws):
        taken[choose(encoded, selection, seed=seed).position] += 1
    expected = inclusion_probability(length, selection=selection)
    error = np.sqrt(expected * (1 - expected) / draws)
    assert np.all(np.abs(taken / draws - expected) <= 5 * error)


def test_all_takes_every_token_with_certainty_and_keeps_the_other_reasons() -> None:
    encoded = in_tokens("So", " Wait", ",", " Let", " x")
    selection = Selection(all_positions=True, interval_every=2, random_count=1)
    chosen = choose(encoded, selection)
    assert chosen.position.tolist() == by_selector(chosen, Selector.ALL) == [0, 1, 2, 3, 4]
    assert chosen.inclusion.tolist() == [1.0] * 5
    part = choose(encoded, Selection(interval_every=2, random_count=1))
    for name in ("interval", "random", "self_correction", "declaratory"):
        assert by_selector(chosen, name) == by_selector(part, name)


def test_everything_off_chooses_nothing() -> None:
    chosen = choose(in_tokens("Wait", ",", "</think>"), OFF)
    assert chosen.position.size == chosen.selectors.size == 0
    assert chosen.inclusion.size == chosen.phase.size == 0


# Markers


@pytest.mark.parametrize(
    ("group", "tokens", "expected"),
    [
        # The token that holds the first character, with or without a space before it.
        ("self_correction", ("So", " Wait", ",", "Wait"), [1, 3]),
        ("self_correction", ("So", " ", "Wait"), [2]),
        # The first token of a phrase of several, and of a word of several.
        ("self_correction", ("Let", " me", " check", "."), [0]),
        ("declaratory", ("Let", " me", " check", "."), [0]),
        ("self_correction", ("x ", "Alter", "nati", "vely", " y"), [1]),
        ("think_close", ("x", "</", "think", ">", "\n"), [1]),
        # Whole phrases only.
        ("declaratory", ("Letter", " Let", "'s", " Let"), [3]),
        # A token that begins elsewhere and goes into the phrase.
        ("answer", ("is $", "\\boxed", "{7}"), [1]),
        ("answer", ("is $\\", "boxed", "{7}"), [0]),
        ("formatting", ("a", ".\n\n", "1", ".", " b"), [1, 2]),
        ("formatting", ("a", "**", "b", "**"), [1, 3]),
        ("answer", ("none", " here"), []),
    ],
)
def test_a_marker_is_the_token_its_match_begins_in(
    group: str, tokens: tuple[str, ...], expected: list[int]
) -> None:
    assert markers(group, *tokens) == expected


def test_a_window_reaches_as_many_tokens_to_either_side() -> None:
    tokens = ("a", "b", "c", " Wait", " d", "e", " Wait", " f", "g")
    assert markers("self_correction", *tokens, window=1) == [2, 3, 4, 5, 6, 7]
    assert markers("self_correction", "Wait", " a", "b", "c", window=2) == [0, 1, 2]
    assert markers("self_correction", "a", "b", " Wait", window=40) == [0, 1, 2]
    assert markers("self_correction", *tokens, window=-1) == []


SOME = st.sampled_from(["Wait", " Wait", "x", ", ", "But", " wait", "Let", " me", " check", "s"])


@given(st.lists(SOME, min_size=1, max_size=20), st.integers(0, 4))
def test_markers_are_what_the_slow_definition_says(tokens: list[str], window: int) -> None:
    encoded = in_tokens(*tokens)
    first = set()
    for start, _ in LEXICON.matches("".join(tokens), group="self_correction"):
        holders = [i for i, (a, b) in enumerate(encoded.char_spans.tolist()) if a <= start < b]
        first.add(holders[0])
    near = [i for i in range(len(tokens)) if any(abs(i - at) <= window for at in first)]
    assert markers("self_correction", *tokens, window=window) == near


def test_of_the_tokens_that_share_a_character_the_first_predicts_it(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.toml"
    path.write_text("[party]\nphrases = ['🙂']\n", encoding="utf-8")
    encoded = EncodedCarrier(
        carrier_id="c",
        token_ids=np.arange(6, dtype=np.int32),
        response_start=1,
        # x, then a token of no character, then the three parts of 🙂
        char_spans=np.array([[0, 1], [1, 1], [1, 2], [1, 2], [1, 2]]),
        response_text="x🙂",
        seam_moved=False,
    )
    chosen = choose(
        encoded, Selection(interval_every=0, random_count=0), lexicon=Lexicon.load(path)
    )
    assert chosen.position.tolist() == [2]


def test_a_match_that_begins_in_the_prompts_token_has_no_position() -> None:
    # `Wa` went into the prompt with the token over the seam.
    encoded = EncodedCarrier(
        carrier_id="c",
        token_ids=np.arange(4, dtype=np.int32),
        response_start=2,
        char_spans=np.array([[2, 4], [4, 9]]),
        response_text="Wait Wait",
        seam_moved=True,
    )
    chosen = choose(encoded, Selection(interval_every=0, random_count=0))
    assert chosen.position.tolist() == [1]


# Phases


def phases(*tokens: str) -> list[Phase]:
    chosen = choose(in_tokens(*tokens), Selection(all_positions=True))
    return [list(Phase)[index] for index in chosen.phase]


def test_phases_turn_behind_the_first_think_close() -> None:
    before, after = Phase.BEFORE_THINK_CLOSE, Phase.AFTER_THINK_CLOSE
    assert phases("Hmm", "</", "think", ">", "So", "</think>", "x") == [before] * 4 + [after] * 3
    assert phases("a", "</think>\n", "b") == [before, before, after]
    assert phases("</think>", "b") == [before, after]
    assert phases("a", "<think>", "b") == [Phase.NO_THINK_CLOSE] * 3


def test_a_lexicon_without_think_close_knows_no_phase(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.toml"
    path.write_text("[a]\nphrases = ['b']\n", encoding="utf-8")
    lexicon = Lexicon.load(path)
    assert selector_names(lexicon) == ("interval", "random", "all", "a")
    chosen = choose(in_tokens("b", "</think>", "c"), Selection(all_positions=True), lexicon=lexicon)
    assert {list(Phase)[index] for index in chosen.phase} == {Phase.NO_THINK_CLOSE}


# Seeding


def test_a_carriers_positions_do_not_depend_on_other_carriers() -> None:
    selection = Selection(interval_every=5, random_count=4)
    ids = [f"c{i}" for i in range(20)]

    def positions(order: list[str]) -> dict[str, list[int]]:
        return {
            name: choose(in_tokens(*"x" * 40, carrier_id=name), selection).position.tolist()
            for name in order
        }

    whole = positions(ids)
    assert positions(list(reversed(ids))) == whole
    assert positions(ids[3:7]) == {name: whole[name] for name in ids[3:7]}
    assert len({tuple(value) for value in whole.values()}) > 10


def test_seed_and_carrier_both_move_the_draw() -> None:
    draws = {
        (seed, name): tuple(carrier_rng(seed, name).integers(1 << 62, size=2).tolist())
        for seed in (0, 1, -1, 10)
        for name in ("a", "0:a", "", "a\ud800")
    }
    assert len(set(draws.values())) == len(draws)
    assert draws[0, "a"] == tuple(carrier_rng(0, "a").integers(1 << 62, size=2).tolist())


def test_one_selector_does_not_move_the_other() -> None:
    encoded = in_tokens(*"x" * 50)
    both = choose(encoded, Selection(interval_every=6, random_count=5))
    interval = choose(encoded, Selection(interval_every=6, random_count=0))
    drawn = choose(encoded, Selection(interval_every=0, random_count=5))
    assert by_selector(both, "interval") == by_selector(interval, "interval")
    assert by_selector(both, "random") == by_selector(drawn, "random")
    assert sorted({*interval.position, *drawn.position}) == both.position.tolist()


def test_a_window_below_off_is_refused() -> None:
    with pytest.raises(UsageFault, match="marker_window must be >= -1"):
        Selection(marker_window=-2)
