"""One word for what training did, by rules that planted mechanisms have tested."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from probing.analysis.mechanism import Evidence
from probing.analysis.testing import holm


class Mechanism(StrEnum):
    """What a verdict can be."""

    SSD = "SSD-like"
    TEMPERATURE = "temperature-like"
    GENERIC = "generic shift"
    MIXED = "mixed"
    NONE = "no detectable change"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Thresholds of the verdict (docs/method.md)."""

    level: float = 0.01
    temperature_share: float = 0.7
    token_share: float = 0.05
    least_gap: float = 0.1


@dataclass(frozen=True)
class Verdict:
    """A mechanism, and the rule that gave it."""

    mechanism: Mechanism
    rule: str


TOKENS, TEMPERATURE = "single tokens", "share of T*"


def adjusted_p_values(found: Evidence) -> dict[str, float]:
    """Holm-adjusted p-values of the family that the verdict reads."""
    raw = {
        name: found.figures[name].p_value
        for name in (
            "slope",
            "gap",
            "support at locks",
            "support at forks",
            "entropy within S, fork - lock",
        )
    }
    raw[TOKENS] = found.tokens.p_value
    share = found.temperature.share
    raw[TEMPERATURE] = share.p_value() if share.value > 0 else 1.0
    return dict(zip(raw, holm(np.array(list(raw.values()))).tolist(), strict=True))


def verdict(found: Evidence, *, rules: Rules) -> Verdict:
    """Apply the rules, in this order."""
    p_values = adjusted_p_values(found)
    beyond = {name for name, p in p_values.items() if p <= rules.level}
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
