"""A whole response in pieces and in colour: nothing lost, nothing twice, nothing hidden."""

import time
import tomllib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interpreter import ROOT
from pages_run import BROKEN, HOSTILE, WARM, PagesRun, hidden, long_carrier, write_pages_run
from rows import plain_statistics

from probing.carriers.record import Carrier
from probing.lexicon import THINK_CLOSE
from probing.reporting import carrier, display, export, tables
from probing.reporting.charts import KIND_COLORS
from probing.reporting.coloring import (
    HIGHER,
    KIND,
    KIND_STRENGTH,
    LINES,
    LOWER,
    NOT_MEASURED,
    OUTSIDE,
    SEQUENTIAL,
    STRENGTHS,
    Aspect,
    Scale,
    coloring,
    diverging,
    is_change,
    sequential,
    value_column,
)
from probing.reporting.comparison import kind_column
from probing.reporting.examples import ENTERS, LEAVES
from probing.reporting.formulas import COMMANDS, LONGEST, MOST, formulas, refusal
from probing.reporting.marking import SHORT
from probing.reporting.quantities import PAIR_QUANTITIES, QUANTITIES
from probing.settings import Decoding, KindRule
from probing.store.reader import Run
from probing.store.words import run_lexicon
from probing.vocabulary import Assignment, Kind, Phase

TICKS = "<think>\n" + "✓" * 12 + "</think>\n✓✓✓"


@pytest.fixture(scope="module")
def ticks(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with characters that two tokens share, and a response of 30,000 tokens."""
    shared = Carrier(
        carrier_id="ticks", problem_id="p", prompt="Well?", response=TICKS, generator="ssd"
    )
    made = write_pages_run(
        tmp_path_factory.mktemp("ticks") / "ticks.zarr",
        problems=4,
        more=[shared, long_carrier(30_000)],
        shard_rows=1024,
    )
    return made.open()


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> PagesRun:
    path = tmp_path_factory.mktemp("coarse") / "coarse.zarr"
    return write_pages_run(path, problems=8, coarse=True)


def index_of(run: Run, carrier_id: str) -> int:
    return [one.carrier_id for one in run.carriers()].index(carrier_id)


def check_pieces(run: Run, index: int) -> carrier.CarrierText:
    """End to end the response; every scored position once, with the token's characters."""
    text, whole = carrier.carrier_text(run, index), run.response_text(index)
    assert "".join(piece.text for piece in text.pieces) == whole
    rows = [piece.row for piece in text.scored]
    positions = run.positions()
    assert sorted(rows) == np.flatnonzero(positions.carrier == index).tolist()
    assert [piece.position for piece in text.scored] == positions.position[rows].tolist()
    at = 0
    for piece in text.pieces:
        if piece.row is not None:
            start, end = positions.char_start[piece.row], positions.char_end[piece.row]
            assert piece.text == whole[max(start, at) : end]
        at += len(piece.text)
        assert piece.shown
        assert hidden(piece.shown) <= {"\n", "\t"}
    return text


def test_pieces_are_the_response_and_hold_every_scored_position_once(run: Run) -> None:
    for index in range(len(run.carriers())):
        check_pieces(run, index)
    with pytest.raises(IndexError, match="carrier must be in 0 … "):
        carrier.carrier_text(run, len(run.carriers()))


def test_tokens_that_share_a_character_are_both_there(ticks: Run) -> None:
    text = check_pieces(ticks, index_of(ticks, "ticks"))
    shown = [piece.shown for piece in text.scored]
    assert "✓" in shown
    halves = [piece for piece in text.scored if piece.text == ""]
    assert {piece.shown for piece in halves} == {"\\x93"}
    ids = ticks.positions().token_id[[piece.row for piece in halves]]
    assert set(ticks.token_bytes(ids)) == {BROKEN[1]}


def test_thirty_thousand_tokens_are_cut_at_once(ticks: Run) -> None:
    index = index_of(ticks, "long")
    assert len(ticks.carrier_token_ids(index)) > 30_000
    began = time.perf_counter()
    text = check_pieces(ticks, index)
    assert time.perf_counter() - began < 10
    assert len(text.scored) > 5_000
    shown = "".join(piece.shown for piece in text.pieces)
    for word in ("<script>alert(1)</script>", "\\u202eright-to-left", "\\x07"):
        assert word in shown


@pytest.mark.parametrize("name", ["run", "ticks"])
def test_the_thought_is_what_its_phase_says(name: str, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(name)
    positions, lexicon = run.positions(), run_lexicon(run)
    before = list(Phase).index(Phase.BEFORE_THINK_CLOSE)
    folded = 0
    for index in range(len(run.carriers())):
        text, whole = carrier.carrier_text(run, index), run.response_text(index)
        closes = lexicon.matches(whole, group=THINK_CLOSE)
        if not closes:
            assert text.thought is None
            continue
        folded += 1
        thought = text.thought
        assert thought is not None
        inside, after = text.pieces[: thought.pieces], text.pieces[thought.pieces :]
        assert {positions.phase[piece.row] for piece in inside if piece.row is not None} <= {before}
        assert before not in {positions.phase[p.row] for p in after if p.row is not None}
        assert "".join(piece.text for piece in inside) == whole[: closes[0].end]
        assert thought.scored == sum(piece.row is not None for piece in inside)
        assert thought.characters == closes[0].end
        ids = run.carrier_token_ids(index)[run.response_start(index) :]
        ends = np.cumsum([len(raw) for raw in run.token_bytes(ids)])
        size = len(whole[: closes[0].end].encode())
        assert thought.tokens == 1 + int((ends < size).sum())
        label = carrier.thought_label(thought)
        assert f"{thought.tokens:,} token" in label
        assert f"{thought.scored:,} scored" in label
    assert folded > 0


def test_white_space_is_seen_and_still_breaks() -> None:
    assert carrier.scored_text("\n\n") == "↵\n↵\n"
    assert carrier.scored_text(" ") == "␣"
    assert carrier.scored_text(" a\u202eb\n") == " a\\u202eb↵\n"


# Colours


finite = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-9)


@given(st.lists(finite, max_size=60), st.booleans())
def test_a_diverging_scale_is_symmetrical_and_farther_is_stronger(
    values: list[float], counts: bool
) -> None:
    known = np.array(np.round(values) if counts else values, dtype=np.float64)
    scale = diverging(known, counts=counts)
    check_scale(scale, known)
    np.testing.assert_array_equal(scale.edges, -scale.edges[::-1])
    middle = len(scale.edges) // 2
    assert scale.shades[middle].strength == 0
    codes, mirrored = scale.codes(known), scale.codes(-known)
    np.testing.assert_array_equal(codes - middle, middle - mirrored)
    assert scale.codes(np.array([0.0, np.inf, -np.inf, np.nan])).tolist() == [
        middle,
        2 * middle,
        0,
        -1,
    ]
    assert {shade.hue for shade in scale.shades[:middle]} == {LOWER}
    assert {shade.hue for shade in scale.shades[middle + 1 :]} == {HIGHER}


@given(st.lists(finite.map(abs), max_size=60), st.booleans(), st.booleans())
def test_a_sequential_scale_is_stronger_away_from_zero(
    values: list[float], counts: bool, falls: bool
) -> None:
    known = np.array(np.round(values) if counts else values, dtype=np.float64)
    known = -known if falls and not counts else known
    scale = sequential(known, counts=counts)
    check_scale(scale, known)
    strengths = [shade.strength for shade in scale.shades]
    falling = bool((known < 0).any())
    assert strengths == sorted(strengths, reverse=falling)


def check_scale(scale: Scale, values: np.ndarray) -> None:
    """Ascending edges, one shade more, and every value between the edges of its shade."""
    assert len(scale.shades) == len(scale.edges) + 1
    assert (np.diff(scale.edges) > 0).all()
    assert len({shade.label for shade in scale.shades}) == len(scale.shades)
    bounds = np.concatenate([[-np.inf], scale.edges, [np.inf]])
    codes = scale.codes(values)
    assert (bounds[codes] <= values).all()
    assert (values <= bounds[codes + 1]).all()


@pytest.mark.parametrize("by", QUANTITIES)
@pytest.mark.parametrize("aspect", Aspect)
def test_every_quantity_has_colours_and_its_figures(
    comparison: pd.DataFrame, by: str, aspect: Aspect
) -> None:
    own = carrier.carrier_positions(comparison, "c001-0")
    found = coloring(comparison, own, by=by, aspect=aspect)
    values = own[value_column(by, aspect)].to_numpy(dtype=np.float64)
    assert len(found.codes) == len(found.values) == len(own)
    assert (found.codes >= 0).all()
    assert (found.codes < len(found.shades)).all()
    for value, code, text in zip(values, found.codes.tolist(), found.values, strict=True):
        assert (found.shades[code] is NOT_MEASURED) == np.isnan(value)
        if np.isfinite(value) and by not in display.COUNTS:
            assert float(text) == pytest.approx(value, abs=5.1e-5, rel=0.06)
        if is_change(by, aspect) and np.isfinite(value):
            hue = found.shades[code].hue
            assert hue != (LOWER if value > 0 else HIGHER)
    if by in PAIR_QUANTITIES:
        assert found == found.__class__(**{**vars(found), "label": QUANTITIES[by].label})


def test_one_shade_means_the_same_in_every_response(comparison: pd.DataFrame) -> None:
    first, second = (
        coloring(comparison, carrier.carrier_positions(comparison, name), by="tail_mass")
        for name in ("c001-0", "c003-1")
    )
    assert first.shades == second.shades


def test_kinds_and_filters_are_shades(comparison: pd.DataFrame) -> None:
    own = carrier.carrier_positions(comparison, "c001-0")
    inside = [place % 2 == 0 for place in range(len(own))]
    for assignment in Assignment:
        found = coloring(comparison, own, by=KIND, assignment=assignment, inside=inside)
        kinds = own[kind_column(assignment)].tolist()
        for kind, code, kept in zip(kinds, found.codes.tolist(), inside, strict=True):
            shade = found.shades[code]
            assert shade.label == (kind if kept else OUTSIDE.label)
            assert not kept or (shade.hue, shade.line) == (KIND_COLORS[kind], LINES[Kind(kind)])
    assert len(set(LINES.values())) == len(Kind)


def luminance(color: tuple[float, ...]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[float, ...], two: tuple[float, ...]) -> float:
    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


def parts(color: str) -> tuple[float, ...]:
    return tuple(int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_every_shade(scheme: str) -> None:
    theme = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["theme"][scheme]
    ink, ground = parts(theme["textColor"]), parts(theme["backgroundColor"])
    shades = [(hue, share) for hue in (LOWER, HIGHER, SEQUENTIAL) for share in STRENGTHS]
    shades += [(color, KIND_STRENGTH) for color in KIND_COLORS.values()]
    for hue, share in shades:
        mixed = tuple(
            share * own + (1 - share) * page for own, page in zip(parts(hue), ground, strict=True)
        )
        assert contrast(mixed, ink) >= 4.5, (hue, share)
        assert contrast(parts(hue), ground) >= 3, hue


# What a page draws


def test_what_is_drawn_is_texts_and_numbers(run: Run, comparison: pd.DataFrame) -> None:
    for index, record in enumerate(run.carriers()):
        own = carrier.carrier_positions(comparison, record.carrier_id)
        text = carrier.carrier_text(run, index)
        found = coloring(comparison, own, by="top1_prob")
        drawn = carrier.drawn(text, found, name=record.carrier_id, at=None)
        assert [place for place in drawn["positions"] if place >= 0] == own["position"].tolist()
        assert len(drawn["codes"]) == len(drawn["values"]) == len(own)
        assert not any(hidden(shown) - {"\n", "\t"} for shown in drawn["texts"])
    with pytest.raises(ValueError, match="every scored position must have a colour"):
        carrier.drawn(text, coloring(comparison, own[1:], by="top1_prob"), name="", at=None)


def test_siblings_are_the_problems_other_responses(run: Run, comparison: pd.DataFrame) -> None:
    records = {one.carrier_id: one for one in run.carriers()}
    for name, record in records.items():
        table = carrier.sibling_table(comparison, name)
        others = {n for n, one in records.items() if one.problem_id == record.problem_id} - {name}
        assert set(table["carrier_id"]) == others
        for row in table.to_dict("records"):
            index = index_of(run, row["carrier_id"])
            assert row["scored"] == int((run.positions().carrier == index).sum())
            length = len(run.carrier_token_ids(index)) - run.response_start(index)
            assert row["response_tokens"] == length
            assert row["generator"] == records[row["carrier_id"]].generator


def test_a_response_opens_after_its_thought(comparison: pd.DataFrame) -> None:
    for _, own in comparison.groupby("carrier_id"):
        position = carrier.opening_position(own)
        phase = own.loc[own["position"] == position, "phase"].iloc[0]
        alone = set(own["phase"]) == {Phase.BEFORE_THINK_CLOSE.value}
        assert (phase == Phase.BEFORE_THINK_CLOSE) == alone


# Formulas


@pytest.mark.parametrize(
    "body",
    [
        r"\href{http://example.org/}{x}",
        r"\url{http://example.org/}",
        r"\includegraphics{http://example.org/x.png}",
        r"\htmlData{a=b}{x}",
        r"\def\a{\a\a}\a",
        r"\newcommand{\a}{\a}\a",
        r"\rule{9999em}{9999em}",
        r"\Huge x",
        r"\kern9999em x",
        r"\color{red}x",
        r"\begin{CD}A\end{CD}",
        r"\char`x",
        "x # y",
        "x % y",
        "x ` y",
        "a\u202eb",
        "}{",
        "{" * 13 + "}" * 13,
        "x" * (LONGEST + 1),
    ],
)
def test_a_formula_that_does_more_than_mathematics_stays_source(body: str) -> None:
    assert refusal(body)


@pytest.mark.parametrize(
    "body",
    [
        r"\frac{1}{2}",
        r"x^2 + y_1 \le \sqrt{\alpha}",
        r"\begin{cases} 1 & x > 0 \\ 0 \end{cases}",
        r"\boxed{12}",
    ],
)
def test_mathematics_is_rendered(body: str) -> None:
    assert refusal(body) == ""


@given(st.text(st.sampled_from("$\\[](){}ab 1\n^")))
def test_no_body_can_end_the_formula_it_is_in(text: str) -> None:
    for formula in formulas(text):
        if not formula.refused:
            assert "$" not in formula.body
            assert "\n" not in formula.body
            assert formula.body.strip() == formula.body != ""


def test_formulas_are_found_as_they_stand() -> None:
    text = r"So $x^2$, \(y\), \[z \] and $$w$$, thus \boxed{\frac{1}{2}}. It costs 5$ or 6. "
    assert [one.body for one in formulas(text)] == ["x^2", "y", "z", "w", r"\boxed{\frac{1}{2}}"]
    assert all(one.source in text for one in formulas(text))
    assert len(formulas("$x$ " * 50)) == MOST
    assert {"def", "href", "url", "includegraphics", "rule"}.isdisjoint(COMMANDS)


# Marks in the top lists


def test_ties_are_those_of_the_whole_vocabulary(coarse: PagesRun) -> None:
    run, seen = coarse.open(), set()
    for row in range(0, len(run), 2):
        table = tables.example_table(
            run, row, other="ssd", control="control", decoding=Decoding(), top=48
        )
        for side, model in (("baseline", 0), ("other", 1), ("control", 2)):
            logits = coarse.logits[row, model]
            for found in table.dropna(subset=[f"{side}_id"]).to_dict("records"):
                alike = int((logits == logits[found[f"{side}_id"]]).sum())
                assert found[f"{side}_tied"] == (alike > 1)
                seen.add(alike > 1)
    assert seen == {True, False}


def test_tokens_enter_and_leave_the_nucleus(written: PagesRun, run: Run) -> None:
    said = set()
    for row in range(0, len(run), 23):
        table = tables.example_table(run, row, other="ssd", control="control", decoding=WARM)
        kept = [_nucleus(written.logits[row, model]) for model in range(3)]
        for side, after in (("baseline", 1), ("other", 1), ("control", 2)):
            for found in table.dropna(subset=[f"{side}_id"]).to_dict("records"):
                token = found[f"{side}_id"]
                expected = {(False, True): ENTERS, (True, False): LEAVES}.get(
                    (token in kept[0], token in kept[after]), ""
                )
                assert found[f"{side}_change"] == expected
                said.add((side, expected))
    assert {("baseline", LEAVES), ("other", ENTERS), ("control", ENTERS)} <= said


def _nucleus(logits: np.ndarray) -> set[int]:
    size = plain_statistics(logits, decoding=WARM).nucleus_size
    return set(np.argsort(-logits, kind="stable")[: int(size)].tolist())


def test_marks_stand_beside_figures_that_stay_numbers(coarse: PagesRun) -> None:
    run = coarse.open()
    for row in range(0, len(run), 31):
        table = tables.example_table(run, row, other="ssd", decoding=WARM)
        shown = display.shown_example(table)
        html = shown.to_html()
        assert shown.data["Probability"].tolist() == table["baseline_prob"].tolist()
        ties = int(table["baseline_tied"].sum() + table["other_tied"].sum())
        assert html.count(" tie<") == ties
        for word in (ENTERS, LEAVES):
            sides = ("baseline", "other")
            count = sum(int((table[f"{side}_change"] == word).sum()) for side in sides)
            assert html.count(f" {SHORT[word]}<") == count


def test_a_responses_positions_download_whole(comparison: pd.DataFrame) -> None:
    own = carrier.carrier_positions(comparison, "c001-0")
    assert own["position"].is_monotonic_increasing
    text = export.csv_text(own)
    assert len(text.splitlines()) >= len(own) + 1
    assert HOSTILE


def test_the_comparison_of_a_long_response_is_whole(ticks: Run) -> None:
    every = tables.comparison_table(ticks, other="ssd", decoding=Decoding(), rule=KindRule())
    own = carrier.carrier_positions(every, "long")
    text = carrier.carrier_text(ticks, index_of(ticks, "long"))
    assert own["row"].tolist() == [piece.row for piece in text.scored]
