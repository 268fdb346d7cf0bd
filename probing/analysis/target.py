"""The distribution that simple self-distillation trains towards."""

from probing.analysis.decoding import kept_probabilities
from probing.analysis.distributions import Distributions
from probing.settings import Decoding
from probing.vocabulary import CandidateLogits


def ssd_target(baseline: Distributions, *, training: Decoding) -> CandidateLogits:
    """q(v) proportional to p_1(v)^(1 / T_train) on S(T_train, k, p) of the baseline, else 0.

    Sampling at T_train with truncation and fine-tuning on the raw output has q as its target at
    every position (method.md section 10). Shape (position, candidate); rows sum to 1.
    """
    return kept_probabilities(baseline, decoding=training).kept_probability
