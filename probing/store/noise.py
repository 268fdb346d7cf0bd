"""The noise floor that a run keeps: what another batch shape alone does to the baseline."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Spread:
    """Absolute differences over positions: median, 95th percentile, maximum."""

    median: float
    p95: float
    maximum: float


@dataclass(frozen=True)
class NoiseFloor:
    """The baseline scored twice, batched by the run's rule and in another shape, compared.

    A difference between two models at one position that lies below it may be rounding alone. It is
    not a null: two models that differ by nothing but noise differ by far more than this, and its
    size says nothing about how often a delta of some size turns up without an effect.

    Attributes:
        carriers, positions: how many were compared.
        tokens: longest prefix of a carrier that was run.
        logit: largest difference of any logit of a position.
        top1_prob: of the largest probability at T = 1, whichever token has it.
        entropy_nats: at T = 1.
        kl_nats: KL(as the run batches ‖ the other shape) at T = 1.
        top1_changed: share of positions whose top-1 token differs.
    """

    carriers: int
    positions: int
    tokens: int
    logit: Spread
    top1_prob: Spread
    entropy_nats: Spread
    kl_nats: Spread
    top1_changed: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, for the run."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "NoiseFloor":
        """The inverse of `to_json`."""
        values: dict[str, Any] = {
            field.name: Spread(**document[field.name])
            if field.type is Spread
            else document[field.name]
            for field in fields(cls)
        }
        return cls(**values)

    def sentence(self) -> str:
        """One line for a terminal or a page."""
        changed = f"; top-1 token differs at {self.top1_changed:.1%}" if self.top1_changed else ""
        return (
            "noise floor (baseline, another batch shape): top-1 probability at most "
            f"{self.top1_prob.maximum:.1e} (median {self.top1_prob.median:.1e}), KL at most "
            f"{self.kl_nats.maximum:.1e} nats, over {self.positions} positions{changed}"
        )
