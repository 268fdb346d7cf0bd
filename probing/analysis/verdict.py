"""One word for what training did, by rules that planted mechanisms have tested.

Source: docs/method.md, Verdict.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from probing.analysis.figures import TILT
from probing.analysis.mechanism import Evidence, Tested
from probing.analysis.testing import holm
from probing.settings import Rules


class Mechanism(StrEnum):
    """What a verdict can be."""

    SSD = "SSD-like"
    TEMPERATURE = "temperature-like"
    GENERIC = "generic shift"
    MIXED = "mixed"
    NONE = "no detectable change"


@dataclass(frozen=True)
class Verdict:
    """A mechanism, and the rule that gave it."""

    mechanism: Mechanism
    rule: str


TOKENS, TEMPERATURE = "single tokens", "share of T*"

FAMILY = (
    "slope",
    "gap",
    "support at locks",
    "support at forks",
    "entropy within S, fork - lock",
    TOKENS,
    TEMPERATURE,
)
"""What the verdict reads; its p-values are adjusted together."""

BESIDE = ("trend", TILT)
"""What no mechanism is named by; where nothing else is told, they say that something happened."""

UNNAMED = "something lies outside both nulls, but no single mechanism is told by it"

LARGEST_GAP = 2.0
"""Nats; where no smaller gap would be found, none can be told."""

AIMED = ("slope", "support at locks", "support at forks")
"""Figures that self-distillation moves up: told to have gone down, an edge is not its own."""

PRIMARY: dict[str, str] = {
    "slope": "P1",
    "support at locks": "P2",
    "support at forks": "P2",
    "entropy within S, fork - lock": "P3",
    TEMPERATURE: "P4",
}
"""Primary contrasts of one model; P5 is the difference of P1 to P3 from a control."""


def p_values(found: Evidence) -> dict[str, float]:
    """Of every figure, of single tokens, and of the share of T* (1 where that is not above 0)."""
    share = found.temperature.share
    return {
        **{name: tested.p_value for name, tested in found.figures.items()},
        TOKENS: found.tokens.p_value,
        TEMPERATURE: 1.0 if share.value <= 0 else share.p_value(),
    }


def adjusted_p_values(found: Evidence) -> dict[str, float]:
    """Holm-adjusted p-values of `FAMILY`."""
    return _adjusted(p_values(found))


def _adjusted(raw: Mapping[str, float]) -> dict[str, float]:
    adjusted = holm(np.array([raw[name] for name in FAMILY]))
    return dict(zip(FAMILY, adjusted.tolist(), strict=True))


@dataclass(frozen=True)
class Control:
    """A control beside the model that a verdict is about.

    Attributes:
        gap: of the model less that of the control.
        found: the control's own evidence.
    """

    gap: Tested
    found: Evidence


def verdict(found: Evidence, *, rules: Rules, control: Control | None = None) -> Verdict:
    """Apply the rules of docs/method.md, Verdict: what is told alone names the mechanism.

    Args:
        found: of one other model.
        rules: thresholds.
        control: beside it, where there is one.
    """
    beyond = told_figures(found, rules)
    if not beyond:
        if also := _told_beside(found, rules):
            return Verdict(Mechanism.MIXED, f"{UNNAMED}; told: {_listed(found, also)}")
        return Verdict(Mechanism.NONE, _nothing(found, rules) + _untold(found, rules))
    shown = _shown(found, beyond, rules)
    if Mechanism.SSD in shown and control is not None and not _beyond_control(control.gap, rules):
        shown = {**shown, Mechanism.MIXED: _like_control(control.gap)}
    if Mechanism.GENERIC in shown and control is not None:
        shown[Mechanism.GENERIC] += _generic_in_control(control.found, rules)
    mechanism, rule = _named(found, shown, rules)
    if mechanism in (Mechanism.TEMPERATURE, Mechanism.GENERIC):
        rule += f", and {_no_gap(found, rules)}"
    if mechanism is Mechanism.MIXED:
        rule += f"; told: {_listed(found, beyond)}"
    return Verdict(mechanism, rule + _untold(found, rules))


def told_figures(found: Evidence, rules: Rules) -> set[str]:
    """Those of `FAMILY` that are told, by Holm at `rules.level`."""
    return {name for name, p in adjusted_p_values(found).items() if p <= rules.level}


def _told_beside(found: Evidence, rules: Rules) -> set[str]:
    """Those of `BESIDE` that are told, by Holm over them and the family."""
    raw = p_values(found)
    names = (*FAMILY, *BESIDE)
    adjusted = holm(np.array([raw[name] for name in names]))
    return {name for name, p in zip(names, adjusted, strict=True) if p <= rules.level}


def _named(found: Evidence, shown: dict[Mechanism, str], rules: Rules) -> tuple[Mechanism, str]:
    """The mechanism that shows alone, and by what."""
    mechanism = next(iter(shown)) if len(shown) == 1 else Mechanism.MIXED
    rule = "; ".join(shown.values()) or UNNAMED
    if mechanism is not Mechanism.TEMPERATURE:
        return mechanism, rule
    if found.temperature.share.value < rules.temperature_share:
        less = f", less than the {rules.temperature_share:.0%} of a temperature alone"
        return Mechanism.MIXED, rule + less
    if _uneven(found, rules):
        tilt = found.figures[TILT].own.value
        uneven = (
            f", but not alike: per nat of log-probability tokens moved by {tilt:+.2g} more where "
            "the baseline is uncertain than where it is certain"
        )
        return Mechanism.MIXED, rule + uneven
    return mechanism, rule


def least_gap_found(found: Evidence, rules: Rules) -> float:
    """The smallest gap, in nats, that the rules tell four times in five; NaN where none can be.

    They ask for more than its own interval does: that it lies outside both nulls, at the level
    that Holm's correction leaves the first of the family.
    """
    gap = found.figures["gap"]
    level = 1 - rules.level / len(FAMILY)
    return max(each.detectable(level=level) for each in (gap.own, *gap.beyond))


def _nothing(found: Evidence, rules: Rules) -> str:
    """Why nothing is told, and what could have been."""
    if not np.isfinite(list(p_values(found).values())).any():
        return "nothing can be tested: too few problems, or equal models"
    if "gap" in untold(found, rules):
        return "nothing lies outside both nulls"
    least = least_gap_found(found, rules)
    return (
        "nothing lies outside both nulls; a gap at the edge would be found four times in five from "
        f"{least:.2g} nats"
    )


def untold(found: Evidence, rules: Rules) -> list[str]:
    """Those of `FAMILY` that could not be told here, whatever training did.

    They are not defined, or too few problems hold them: a gap of `LARGEST_GAP` would not be found
    four times in five; had all problems agreed on single tokens, their p-value would still be
    above the level, adjusted beside the others'.
    """
    raw = p_values(found)
    names = [name for name in FAMILY if np.isnan(raw[name])]
    if "gap" not in names and not least_gap_found(found, rules) <= LARGEST_GAP:
        names.append("gap")
    if TOKENS not in names:
        best = {**raw, TOKENS: found.tokens.least_p_value}
        if _adjusted(best)[TOKENS] > rules.level:
            names.append(TOKENS)
    return names


def _untold(found: Evidence, rules: Rules) -> str:
    names = untold(found, rules)
    return f"; cannot be told here: {', '.join(names)}" if names else ""


def _listed(found: Evidence, beyond: set[str]) -> str:
    """What is told, with its figure."""
    values = {
        **{name: tested.own.value for name, tested in found.figures.items()},
        TOKENS: found.tokens.share,
        TEMPERATURE: found.temperature.share.value,
    }
    names = [*FAMILY, *BESIDE]
    return ", ".join(f"{name} {values[name]:+.2g}" for name in names if name in beyond)


def _uneven(found: Evidence, rules: Rules) -> bool:
    """Whether T* is one temperature for all in name alone."""
    tilt = found.figures[TILT]
    half = abs(1 / found.temperature.temperature - 1) / 2
    return tilt.p_value <= rules.level and abs(tilt.own.value) >= half


def _generic_in_control(control: Evidence, rules: Rules) -> str:
    if TOKENS in told_figures(control, rules) and control.tokens.share >= rules.token_share:
        return ", and so did the control's"
    return ", and the control's are not told to have"


def _shown(found: Evidence, beyond: set[str], rules: Rules) -> dict[Mechanism, str]:
    """What each mechanism shows by, of those that show; `MIXED` is an edge that is not SSD's."""
    told: dict[Mechanism, str] = {}
    gap = found.figures["gap"].own.value
    against = [name for name in AIMED if name in beyond and found.figures[name].side < 0]
    if "gap" in beyond and abs(gap) >= rules.least_gap:
        lost = "tokens outside the support of the target lost more than equally likely ones inside"
        if gap > 0:
            told[Mechanism.MIXED] = "tokens outside the support of the target gained"
        elif against:
            told[Mechanism.MIXED] = (
                f"{lost}, but {' and '.join(against)} went against the target: was training stated "
                "rightly?"
            )
        else:
            told[Mechanism.SSD] = lost
    if TOKENS in beyond and found.tokens.share >= rules.token_share:
        told[Mechanism.GENERIC] = "single tokens, or contexts that recur, moved alike"
    # A target looks in part like a temperature by itself: what it keeps has the tempered shape.
    share = _share(found, beyond)
    alone = Mechanism.SSD not in told
    if share >= (rules.temperature_part if alone else rules.temperature_share):
        told[Mechanism.TEMPERATURE] = f"T* explains {share:.0%} of KL"
    return told


def _beyond_control(gap: Tested, rules: Rules) -> bool:
    return gap.side < 0 and gap.p_value <= rules.level


def _like_control(gap: Tested) -> str:
    return (
        "that loss is not told apart from the control's (difference "
        f"{gap.own.value:+.2g} nats, p {gap.p_value:.2g})"
    )


def _share(found: Evidence, beyond: set[str]) -> float:
    return found.temperature.share.value if TEMPERATURE in beyond else 0.0


def _no_gap(found: Evidence, rules: Rules) -> str:
    """Why an edge speaks for nothing."""
    if "gap" in untold(found, rules):
        return "no gap can be told: too few like tokens lie inside and outside the target's support"
    least = least_gap_found(found, rules)
    power = f" (four times in five one would be from {least:.2g})"
    return f"no gap of {rules.least_gap:g} nats is told{power}"
