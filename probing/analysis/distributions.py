"""What the store knows of one distribution per position: exact candidates and a tempered tail."""

from dataclasses import dataclass

from probing.vocabulary import CandidateIds, CandidateLogits, PerPosition, TailNodes


@dataclass(frozen=True)
class Tail:
    """The complement of the candidates, for one distribution per position (method.md section 3).

    With x the distribution's logits, v running over the ids outside the candidates that have a
    finite logit, and beta the nodes of the grid:

    - `reference[i]   = max_v x_v`, float32; -inf where nothing lies outside (V <= candidates);
    - `log_mass[i, n] = log sum_v exp(beta_n (x_v - reference))`, >= 0 (nats);
    - `mean[i, n]     = E_n[x_v - reference]` under the tail tempered with beta_n (logit units);
    - `square[i, n]   = E_n[(x_v - reference)^2]`.

    Rows with nothing outside hold 0 in all three.
    """

    reference: PerPosition
    log_mass: TailNodes
    mean: TailNodes
    square: TailNodes


@dataclass(frozen=True)
class Distributions:
    """One distribution per position: of a model, or of the mean of several models' logits.

    Attributes:
        ids: candidate ids, `PADDING_ID` where unused.
        logits: this distribution's logit of every candidate, float32; -inf where unused. Exact.
            The order of candidates is the store's (best rank over the models), the same for
            every distribution of a run, so columns of two distributions align.
        tail: the rest of the vocabulary.
        betas: the nodes of the tail grid, inverse temperatures, shape (beta,).

    Candidates with `logits >= tail.reference` are this distribution's own top ones, exactly;
    ranks of the others are only bounded below.
    """

    ids: CandidateIds
    logits: CandidateLogits
    tail: Tail
    betas: PerPosition
