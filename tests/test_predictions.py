"""How rows of the evidence read: made figures, each with what is known to follow."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from test_verdict import PROBLEMS, ROWS, estimate, flat, with_figure, with_share

from probing.analysis import mechanism
from probing.analysis.estimates import Estimate
from probing.analysis.mechanism import Evidence
from probing.analysis.verdict import TEMPERATURE, Mechanism, Verdict
from probing.reporting.contrasts import contrast_name
from probing.reporting.mechanism import Asked, Found
from probing.reporting.predictions import (
    CANNOT_TELL,
    CONTRADICTS,
    FEW,
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


def reading(found: Mapping[str, Found], comparison: str, figure: str) -> str:
    table = evidence_table(found, asked=ASKED)
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
        (WANTED - 0.2, Mechanism.MIXED, SUPPORTS),
        (WANTED - 0.2, Mechanism.NONE, CANNOT_TELL),
        (WANTED - 0.02, Mechanism.MIXED, CANNOT_TELL),
        (WANTED + 0.02, Mechanism.MIXED, CANNOT_TELL),
        (WANTED + 0.2, Mechanism.MIXED, CONTRADICTS),
    ],
)
def test_the_share_of_a_temperature_reads_by_its_interval(
    share: float, word: Mechanism, wanted: str
) -> None:
    found = {"ssd": named(with_share(flat(), share), word)}
    assert reading(found, "ssd", TEMPERATURE) == wanted


@pytest.mark.parametrize(
    ("errors", "wanted"),
    [
        (-2.5, CONTRADICTS),
        # Between the ends of a 90 % and a 95 % interval, 1.68 and 2.02 errors away.
        (-1.85, CONTRADICTS),
        (-1.5, CANNOT_TELL),
        (1.5, CANNOT_TELL),
        (1.85, SUPPORTS),
        (2.5, SUPPORTS),
    ],
)
def test_survival_is_two_tests_at_5_percent_of_its_margin(errors: float, wanted: str) -> None:
    own = estimate(-MARGIN + 0.01 * errors, error=0.01)
    assert reading({"ssd": named(with_own(flat(), SURVIVAL, own))}, "ssd", SURVIVAL) == wanted


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
        assert read == {0: "", moved: SUPPORTS, -moved: CONTRADICTS}[sign]


@pytest.mark.parametrize("null", [0.0, 0.6])
def test_a_direction_is_that_of_the_distance_to_the_nulls(null: float) -> None:
    both = estimate(null, error=1e-6)
    tested = mechanism.Tested(estimate(0.3, error=0.01), both, both)
    found = Evidence(
        {**flat().figures, "slope": tested}, flat().temperature, flat().tokens, 0.0, 0.1
    )
    wanted = SUPPORTS if null < 0.3 else CONTRADICTS
    assert reading({"ssd": named(found)}, "ssd", "slope") == wanted


def few(problems: int) -> Evidence:
    influence = np.zeros(PROBLEMS)
    influence[:problems] = np.linspace(-1, 1, problems)
    one = Estimate(0.0, influence, ROWS)
    figures = dict.fromkeys(flat().figures, mechanism.Tested(one, one, one))
    return Evidence(figures, flat().temperature, flat().tokens, 0.0, 0.1)


def test_the_model_with_the_fewest_problems_is_warned_of() -> None:
    table = pd.DataFrame({"primary": ["P1", ""], "family": [1, 1]})
    for sides in ((8, FEW), (FEW, 8)):
        found = dict(zip(("ssd", "control"), (named(few(each)) for each in sides), strict=True))
        notes = evidence_notes(table, found=found, asked=ASKED)
        assert any(note.startswith("8 problems, fewer than") for note in notes)
    enough = evidence_notes(table, found={"ssd": named(few(FEW))}, asked=ASKED)
    assert not any("fewer than" in note for note in enough)
