"""What a run keeps of its dtype: the same positions in it and in float32, compared."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

WELL_ABOVE = 0.25
"""Largest change of KL, as a share of KL in float32, that passes without a warning.

Casts that left an effect standing changed its KL by up to 22 % (LoRAs in bfloat16, method.md
section 8); beyond a quarter the effect is less than four times what the dtype does to it.
"""


@dataclass(frozen=True)
class InBoth:
    """One figure in the run's dtype and in float32."""

    run: float
    float32: float


@dataclass(frozen=True)
class CastEffect:
    """One other model against the baseline, in both dtypes.

    Attributes:
        name: the model's.
        kl_nats: mean KL(baseline ‖ model) at T = 1.
        top1_change: mean over positions of the model's largest probability at T = 1 minus the
            baseline's, whichever tokens have them.
    """

    name: str
    kl_nats: InBoth
    top1_change: InBoth

    @property
    def kl_share(self) -> float:
        """What the dtype adds to KL, as a share of KL in float32; infinite where that is 0."""
        added = self.kl_nats.run - self.kl_nats.float32
        if self.kl_nats.float32 > 0:
            return added / self.kl_nats.float32
        return math.inf if added > 0 else 0.0

    @property
    def sign_turns(self) -> bool:
        """Whether the change of the top-1 probability has the other sign in float32."""
        return self.top1_change.run * self.top1_change.float32 < 0

    def warning(self, dtype: str) -> str:
        """What whoever reads the run must know; empty where KL and sign are well above the cast."""
        found = []
        if abs(self.kl_share) > WELL_ABOVE:
            found.append(f"its KL is {_both(self.kl_nats, '.3g')} nats in float32")
        if self.sign_turns:
            found.append(f"its top-1 change is {_both(self.top1_change, '+.1e')} in float32")
        if not found:
            return ""
        return (
            f"{self.name}: in {dtype} {' and '.join(found)}, so effects of this size may be the "
            "cast's; set dtype = 'float32' under [scoring]"
        )


@dataclass(frozen=True)
class Casting:
    """Every model at a few positions in the run's dtype and in float32.

    It holds what the dtype does to weights and to arithmetic, at positions spread over the
    lengths; the noise floor holds what a batch shape does in one dtype.

    Attributes:
        dtype: that the run's backbones run in.
        carriers, positions: how many were compared, the same ones for every model.
        baseline_top1_moved: mean absolute change of the baseline's largest probability at T = 1.
        others: of each other model, in the run's order.
    """

    dtype: str
    carriers: int
    positions: int
    baseline_top1_moved: float
    others: tuple[CastEffect, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, for the run."""
        return {**asdict(self), "others": [asdict(other) for other in self.others]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Casting":
        """The inverse of `to_json`."""
        others = tuple(
            CastEffect(
                name=other["name"],
                kl_nats=InBoth(**other["kl_nats"]),
                top1_change=InBoth(**other["top1_change"]),
            )
            for other in document["others"]
        )
        return cls(**{**document, "others": others})

    @property
    def warnings(self) -> tuple[str, ...]:
        """One for each model whose effect is not well above what the dtype does to it."""
        every = (other.warning(self.dtype) for other in self.others)
        return tuple(warning for warning in every if warning)

    def sentence(self) -> str:
        """One line for a terminal or a page."""
        others = "; ".join(
            f"{other.name}: KL {_both(other.kl_nats, '.3g')} nats, top-1 change "
            f"{_both(other.top1_change, '+.1e')}"
            for other in self.others
        )
        return (
            f"{self.dtype} (against float32), over {self.positions} positions: the baseline's "
            f"top-1 probability moves by {self.baseline_top1_moved:.1e} on average; {others}"
        )


def _both(figure: InBoth, form: str) -> str:
    return f"{figure.run:{form}} ({figure.float32:{form}})"
