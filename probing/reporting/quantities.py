"""What is compared at a position: the catalogue behind every table, chart and tooltip."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One quantity of method.md section 2 or 3.

    Attributes:
        name: column name, as in method.md.
        label: for readers, with the unit.
        explanation: one plain sentence; tooltips use it.
        of: "model" has a value under each model and a delta (other - baseline); "pair" has one
            value for the two models together, which stands where a delta would.
    """

    name: str
    label: str
    explanation: str
    of: Literal["model", "pair"] = "model"


_ALL = (
    Quantity(
        name="top1_prob",
        label="Top-1 probability",
        explanation="The largest probability at the chosen temperature, before truncation. The "
        "two models' top tokens may differ.",
    ),
    Quantity(
        name="baseline_top1_prob",
        label="Probability of the baseline's top-1",
        explanation="Under each model, the probability of the token the baseline ranks first. "
        "Negative by selection: even two equal but noisy models show a loss here.",
    ),
    Quantity(
        name="nucleus_size",
        label="Nucleus size (tokens)",
        explanation="How many tokens are left after top-k and top-p.",
    ),
    Quantity(
        name="tail_mass",
        label="Tail mass",
        explanation="Probability outside the top k, at the chosen temperature.",
    ),
    Quantity(
        name="entropy_nats",
        label="Entropy (nats)",
        explanation="Of the whole distribution at the chosen temperature.",
    ),
    Quantity(
        name="entropy_kept_nats",
        label="Entropy after truncation (nats)",
        explanation="Of what top-k and top-p leave, renormalised.",
    ),
    Quantity(
        name="kl_baseline_other",
        label="KL(baseline ‖ other) (nats)",
        explanation="How far the other model is from the baseline over the whole vocabulary; a "
        "divergence, not a difference of two means.",
        of="pair",
    ),
    Quantity(
        name="kl_other_baseline",
        label="KL(other ‖ baseline) (nats)",
        explanation="The same divergence the other way round.",
        of="pair",
    ),
    Quantity(
        name="js",
        label="Jensen–Shannon divergence (nats)",
        explanation="A symmetric divergence; known only at the temperatures named when the run "
        "was scored.",
        of="pair",
    ),
    Quantity(
        name="top1_prob_kept",
        label="Top-1 probability after truncation",
        explanation="The largest probability after top-k, top-p and renormalisation.",
    ),
    Quantity(
        name="nucleus_size_full",
        label="Nucleus size without top-k (tokens)",
        explanation="The smallest number of tokens that holds mass top-p when top-k is off.",
    ),
    Quantity(
        name="excluded_mass",
        label="Excluded mass",
        explanation="Probability that top-k and top-p throw away.",
    ),
    Quantity(
        name="varentropy",
        label="Varentropy (nats²)",
        explanation="The variance of the surprise; 0 for a flat or a certain distribution.",
    ),
    Quantity(
        name="margin_nats",
        label="Margin (nats)",
        explanation="Log-odds of the first token over the second.",
    ),
    Quantity(
        name="close_tokens",
        label="Close tokens",
        explanation="Tokens among the top 10 with at least a quarter of the top-1 probability.",
    ),
    Quantity(
        name="realised_logprob",
        label="Log-probability of the realised token (nats)",
        explanation="Of the token that stands in the response. It favours the model that wrote it.",
    ),
    Quantity(
        name="realised_rank",
        label="Rank of the realised token",
        explanation="1 is the most likely token.",
    ),
    Quantity(
        name="nucleus_jaccard",
        label="Overlap of the two nuclei",
        explanation="Tokens in both sets over tokens in either; 1 means the same set.",
        of="pair",
    ),
)

QUANTITIES: dict[str, Quantity] = {quantity.name: quantity for quantity in _ALL}
"""By name, in the order in which tables list them."""

TOP = "baseline_top1_prob"
"""The one whose token is the baseline's under both models."""

MODEL_QUANTITIES = tuple(q.name for q in _ALL if q.of == "model")
PAIR_QUANTITIES = tuple(q.name for q in _ALL if q.of == "pair")

SHOWN_FIRST = (
    "top1_prob",
    "baseline_top1_prob",
    "nucleus_size",
    "tail_mass",
    "entropy_nats",
    "entropy_kept_nats",
    "kl_baseline_other",
)
"""Quantities a page or summary opens with."""


def baseline_column(name: str) -> str:
    """Column of a comparison that holds a model quantity under the baseline."""
    return f"{name}_baseline"


def other_column(name: str) -> str:
    """Column of a comparison that holds a model quantity under the other model."""
    return f"{name}_other"


def delta_column(name: str) -> str:
    """Column of a comparison with other - baseline, or with the value of a pair quantity."""
    return name if QUANTITIES[name].of == "pair" else f"{name}_delta"
