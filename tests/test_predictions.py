"""How rows of the evidence read: made figures, each with what is known to follow."""

from collections.abc import Mapping

import numpy as np
import pytest
from scipy import stats as scipy_stats
from test_verdict import PROBLEMS, ROWS, estimate, flat, with_figure, with_share

from probing.analysis import mechanism
from probing.analysis.estimates import Estimate
from probing.analysis.mechanism import Evidence
from probing.analysis.verdict import TEMPERATURE, Mechanism, Verdict
from probing.reporting.contrasts import contrast_name
from probing.reporting.mechanism import Asked, Findings, Found
from probing.reporting.predictions import (
    ALLOWS,
    CANNOT_TELL,
    CONTRADICTS,
    FEW,
    LESS,
    NO_TRUNCATION,
    PREDICTIONS,
    SUPPORTS,
    SURVIVAL,
    Prediction,
    evidence_notes,
    evidence_table,
)
from probing.settings import Margins, Training

ASKED = Asked(training=Training(temperature=1.1, top_k=20, top_p=0.95))
WANTED = ASKED.rules.temperature_share
MARGIN = Margins().entropy_kept_nats


def named(found: Evidence, word: Mechanism = Mechanism.MIXED) -> Found:
    return Found(found, Verdict(word, "a rule"))


def findings(models: Mapping[str, Found]) -> Findings:
    """Of one model or two, whose kinds are alike."""
    if len(models) < 2:
        return Findings(dict(models))
    first, second = (each.evidence.figures for each in models.values())
    return Findings(dict(models), {name: first[name] - second[name] for name in first})


def reading(found: Mapping[str, Found], comparison: str, figure: str) -> str:
    table = evidence_table(findings(found), asked=ASKED)
    row = table[(table["comparison"] == comparison) & (table["figure"] == figure)]
    return str(row["reads"].item())


def with_own(found: Evidence, name: str, own: Estimate) -> Evidence:
    tested = mechanism.Tested(own, found.figures[name].exchange, found.figures[name].drift)
    return Evidence(
        {**found.figures, name: tested},
        found.temperature,
        found.tokens,
        found.r_squared,
        found.noise,
    )


@pytest.mark.parametrize(
    ("share", "word", "wanted"),
    [
        (WANTED - 0.2, Mechanism.MIXED, ALLOWS),
        (WANTED - 0.2, Mechanism.NONE, CANNOT_TELL),
        (WANTED - 0.02, Mechanism.MIXED, CANNOT_TELL),
        (WANTED + 0.02, Mechanism.MIXED, CANNOT_TELL),
        (WANTED + 0.2, Mechanism.MIXED, CONTRADICTS),
    ],
)
def test_the_share_of_a_temperature_is_held_against_what_a_temperature_gives(
    share: float, word: Mechanism, wanted: str
) -> None:
    found = {"ssd": named(with_share(flat(), share), word)}
    assert reading(found, "ssd", TEMPERATURE) == wanted


@pytest.mark.parametrize("errors", [-8.0, -1.0, 1.0, 8.0])
def test_survival_is_held_against_its_margin_and_its_p_value_says_so(errors: float) -> None:
    own = estimate(-MARGIN + 0.01 * errors, error=0.01)
    found = findings({"ssd": named(with_own(flat(), SURVIVAL, own))})
    table = evidence_table(found, asked=ASKED)
    row = table[table["figure"] == SURVIVAL].iloc[0]
    one_sided = scipy_stats.t.sf(abs(errors), PROBLEMS - 1)
    assert row["p_value"] == pytest.approx(one_sided)
    told = row["p_adjusted"] <= ASKED.rules.display
    assert told == (abs(errors) > 5)
    assert row["reads"] == ((ALLOWS if errors > 0 else CONTRADICTS) if told else CANNOT_TELL)


@pytest.mark.parametrize(("figure", "sign"), [("gap", -1), ("slope", 1)])
def test_a_difference_reads_by_the_sign_that_is_predicted(figure: str, sign: int) -> None:
    moved, still = named(with_figure(flat(), figure, 0.3 * sign)), named(flat())
    contrast = contrast_name("ssd", "control")
    assert reading({"ssd": moved, "control": still}, contrast, figure) == SUPPORTS
    assert reading({"ssd": still, "control": moved}, contrast, figure) == CONTRADICTS
    assert reading({"ssd": moved, "control": still}, contrast, SURVIVAL) == ""


@pytest.mark.parametrize("each", PREDICTIONS, ids=lambda each: each.name)
def test_a_figure_that_moves_as_the_words_say_is_read_as_support(each: Prediction) -> None:
    signs = {"below 0": -1, "above 0": 1, "towards 1": 1, "the margin": 1}
    sign = next((value for words, value in signs.items() if each.says.endswith(words)), 0)
    for moved in (1, -1):
        found = with_figure(flat(), each.name, 0.3 * moved)
        read = reading({"ssd": named(found)}, "ssd", each.name)
        met = ALLOWS if each.name == SURVIVAL else SUPPORTS
        assert read == {0: "", moved: met, -moved: CONTRADICTS}[sign]


@pytest.mark.parametrize("null", [0.0, 0.6])
def test_a_direction_is_that_of_the_distance_to_the_nulls(null: float) -> None:
    both = estimate(null, error=1e-6)
    tested = mechanism.Tested(estimate(0.3, error=0.01), both, both)
    found = Evidence(
        {**flat().figures, "slope": tested}, flat().temperature, flat().tokens, 0.0, 0.1
    )
    wanted = SUPPORTS if null < 0.3 else CONTRADICTS
    assert reading({"ssd": named(found)}, "ssd", "slope") == wanted


def test_less_against_than_its_nulls_is_no_support() -> None:
    null = estimate(-0.6, error=1e-6)
    tested = mechanism.Tested(estimate(-0.3, error=0.01), null, null)
    found = Evidence(
        {**flat().figures, "within at forks": tested}, flat().temperature, flat().tokens, 0.0, 0.1
    )
    assert reading({"ssd": named(found)}, "ssd", "within at forks") == LESS


def few(problems: int) -> Evidence:
    """Evidence of which forks come from so many problems."""
    influence = np.zeros(PROBLEMS)
    influence[:problems] = np.linspace(-1, 1, problems)
    one = Estimate(0.0, influence, ROWS)
    figures = {**flat().figures, "support at forks": mechanism.Tested(one, one, one)}
    return Evidence(figures, flat().temperature, flat().tokens, 0.0, 0.1)


def notes_of(models: Mapping[str, Found], asked: Asked = ASKED) -> list[str]:
    found = findings(models)
    return evidence_notes(evidence_table(found, asked=asked), found=found, asked=asked)


def test_figures_of_few_problems_are_named() -> None:
    warned = [each for each in notes_of({"ssd": named(few(8))}) if "fewer than" in each]
    assert warned == [
        f"ssd: effectively fewer than {FEW} problems carry support at forks (8): a wide guess"
    ]
    assert not any("fewer than" in note for note in notes_of({"ssd": named(few(FEW))}))


def test_what_was_not_said_of_the_samples_is_noted() -> None:
    models = {"ssd": named(flat())}
    assert any("samples: T 1.1, top-k 20, top-p 0.95;" in note for note in notes_of(models))
    assumed = Asked(training=Training.told())
    assert any("T 1.1 (assumed)" in note for note in notes_of(models, assumed))
    whole = Asked(training=Training(temperature=1.3, top_k=0, top_p=1.0))
    assert NO_TRUNCATION in notes_of(models, whole)
    assert NO_TRUNCATION not in notes_of(models)
