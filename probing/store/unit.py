"""What scoring hands to the store: the arrays of one unit."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt


@dataclass(frozen=True)
class UnitArrays:
    """All arrays of the positions of one unit, in row order. Field names are the arrays' names.

    Axes: `model` is baseline first, then the others; `measure` is the models, then the means of
    (baseline, other) for each other, then with more than two models the mean over all;
    `pair` is (baseline, other) for each other; `temperature` the named temperatures;
    `beta` the tail grid's nodes; `candidate` the union of the models' top-K ids and the watched
    ids, ordered by best rank over the models, padded with id -1 and logit -inf.

    Attributes:
        carrier: index of the carrier in the run.
        position: i of y_i within the response.
        token_id: y_i.
        selectors, inclusion, phase: as in `SelectedPositions`.
        char_start, char_end: the characters of the response text that y_i covers.
        candidate_id, logit: see above; logits are float32 after the model's own soft-cap or scale.
        realised_logit: logit of y_i.
        realised_rank: 1 + number of ids with a strictly larger logit, over the full vocabulary.
        masked: number of ids with a -inf logit (excluded from every mean).
        log_z: logsumexp of logits / T over the full vocabulary.
        kl_baseline_other, kl_other_baseline, js: at each named temperature, full vocabulary, nats.
        tail_reference, tail_log_mass, tail_square: see `analysis.distributions.Tail`.
        tail_mean: over the measure's tempered tail, the mean of (model's logit - the model's own
            `tail_reference`), for every model.
    """

    carrier: Int[np.ndarray, " position"]
    position: Int[np.ndarray, " position"]
    token_id: Int[np.ndarray, " position"]
    selectors: UInt[np.ndarray, " position"]
    inclusion: Float[np.ndarray, " position"]
    phase: UInt[np.ndarray, " position"]
    char_start: Int[np.ndarray, " position"]
    char_end: Int[np.ndarray, " position"]
    candidate_id: Int[np.ndarray, "position candidate"]
    logit: Float[np.ndarray, "position model candidate"]
    realised_logit: Float[np.ndarray, "position model"]
    realised_rank: Int[np.ndarray, "position model"]
    masked: Int[np.ndarray, "position model"]
    log_z: Float[np.ndarray, "position model temperature"]
    kl_baseline_other: Float[np.ndarray, "position pair temperature"]
    kl_other_baseline: Float[np.ndarray, "position pair temperature"]
    js: Float[np.ndarray, "position pair temperature"]
    tail_reference: Float[np.ndarray, "position measure"]
    tail_log_mass: Float[np.ndarray, "position measure beta"]
    tail_mean: Float[np.ndarray, "position measure model beta"]
    tail_square: Float[np.ndarray, "position measure beta"]


@dataclass(frozen=True)
class Measures:
    """The `measure` axis of a run: which combination of models' logits each entry is."""

    names: tuple[str, ...]
    weights: Float[np.ndarray, "measure model"]


def measures(model_names: tuple[str, ...]) -> Measures:
    """The measures of a run with these models, baseline first.

    Examples:
        >>> measures(("base", "ssd")).names
        ('base', 'ssd', 'mean(base,ssd)')
    """
    count = len(model_names)
    names = list(model_names)
    rows = list(np.eye(count))
    for other in range(1, count):
        names.append(f"mean({model_names[0]},{model_names[other]})")
        rows.append((np.eye(count)[0] + np.eye(count)[other]) / 2)
    if count > 2:
        names.append("mean(all)")
        rows.append(np.full(count, 1 / count))
    return Measures(names=tuple(names), weights=np.array(rows))
