"""One word for what training did, by rules that planted mechanisms have tested."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from probing.analysis.mechanism import Evidence
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
        TEMPERATURE: share.p_value() if share.value > 0 else 1.0,
    }


def adjusted_p_values(found: Evidence) -> dict[str, float]:
    """Holm-adjusted p-values of `FAMILY`."""
    raw = p_values(found)
    adjusted = holm(np.array([raw[name] for name in FAMILY]))
    return dict(zip(FAMILY, adjusted.tolist(), strict=True))


def verdict(found: Evidence, *, rules: Rules) -> Verdict:
    """Apply the rules, in this order."""
    beyond = {name for name, p in adjusted_p_values(found).items() if p <= rules.level}
    gap = found.figures["gap"].own.value
    edge = "gap" in beyond and gap <= -rules.least_gap
    tokens = TOKENS in beyond and found.tokens.share >= rules.token_share
    share = found.temperature.share.value
    if not beyond:
        return Verdict(Mechanism.NONE, "nothing lies outside both nulls")
    if edge and tokens:
        return Verdict(
            Mechanism.MIXED, "tokens outside the support lost more, and single tokens moved alike"
        )
    if edge:
        return Verdict(
            Mechanism.SSD, "tokens outside the support of the target lost more than a trend says"
        )
    no_gap = f"and no gap of {rules.least_gap:g} nats is told"
    if share >= rules.temperature_share:
        return Verdict(Mechanism.TEMPERATURE, f"T* explains {share:.0%} of KL, {no_gap}")
    if tokens:
        return Verdict(Mechanism.GENERIC, f"single tokens moved alike, {no_gap}")
    return Verdict(Mechanism.MIXED, "something lies outside both nulls, but no single mechanism")
