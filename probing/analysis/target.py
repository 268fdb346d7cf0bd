"""The distribution that simple self-distillation trains towards."""

from dataclasses import replace

import numpy as np

from probing.analysis.decoding import kept_probabilities
from probing.analysis.distributions import Distributions, Tail
from probing.errors import OutsideContract
from probing.settings import Decoding


def ssd_target(rows: Distributions, *, training: Decoding) -> Distributions:
    """What samples of `rows` at this decoding are distributed as (method.md section 10).

    q(v) proportional to p_1(v)^(1/T) on the tokens that truncation keeps, 0 elsewhere.

    Args:
        rows: The baseline.
        training: T_train, k and p of the samples; its order is that of the sampler.

    Returns:
        q over the same candidates: logits are log q (float64), -inf where cut, and no tail.

    Raises:
        OutsideContract: as `decoding.statistics`; also where the candidates cannot tell what is
            kept.
    """
    asked = (
        f"the training samples' T {training.temperature:g}, top-k {training.top_k}, top-p "
        f"{training.top_p:g}"
    )
    try:
        kept = kept_probabilities(rows, decoding=training).kept
    except OutsideContract as error:
        raise OutsideContract(f"no target can be made for {asked}: {error}") from error
    unknown = int((~np.isfinite(kept).all(axis=1)).sum())
    if unknown:
        raise OutsideContract(
            f"what truncation keeps must lie within the candidates, got {unknown} positions where "
            f"it may not for {asked}; give a train_top_k of at most the run's top K"
        )
    # Without truncation the candidates hold a part of q alone: its shape among them is taken.
    kept = kept / kept.sum(axis=1, keepdims=True)
    logits = np.full(kept.shape, -np.inf)
    np.log(kept, out=logits, where=kept > 0)
    nothing = np.zeros_like(rows.tail.log_mass)
    tail = Tail(
        reference=np.full(len(kept), -np.inf, dtype=np.float32),
        log_mass=nothing,
        mean=nothing,
        square=nothing,
    )
    return replace(rows, logits=logits, tail=tail, is_mean=False)
