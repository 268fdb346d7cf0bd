"""The tail grid: log-partition and moments of what lies outside the candidates."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int

from probing.vocabulary import PADDING_ID

TILE_ELEMENTS = {"cpu": 1 << 13, "cuda": 1 << 21}
"""Ids tempered at a time, at all nodes: the exponentials of a CPU's tile stay in its cache."""

LOWEST_EXPONENT = -80.0
"""Exponents are clamped here: exp(-80) is nothing beside the tail's largest, whose exp is 1, and
is a normal float32 number, where arithmetic is fast."""

SMALLEST_MASS = 1e-30
"""Divides where a mean has no id to be taken over, so that it is 0."""

OUTSIDE = -1e4
"""Takes the place of -inf, over the smallest beta: far below the clamp for every measure, and
finite, so that moments need no second mask."""


@dataclass(frozen=True)
class Tails:
    """See `UnitArrays.tail_*`; float64."""

    reference: Float[torch.Tensor, "position measure"]
    log_mass: Float[torch.Tensor, "position measure beta"]
    mean: Float[torch.Tensor, "position measure model beta"]
    square: Float[torch.Tensor, "position measure beta"]


def tails(
    block: Sequence[Float[torch.Tensor, "position vocabulary"]],
    candidate_id: Int[torch.Tensor, "position candidate"],
    *,
    betas: Float[torch.Tensor, " beta"],
    weights: Float[torch.Tensor, "measure model"],
    uneven: bool,
) -> Tails:
    """The tail of every measure, over ids that are no candidates and that no model of it masks.

    Overwrites `block` with working values: call it last.

    Args:
        block: Each model's logits.
        candidate_id: Padded with `PADDING_ID`.
        betas: Nodes of the grid, float32.
        weights: Each measure's mixture of the models' logits.
        uneven: Some id may be masked (-inf) by one model and not by another.
    """
    rows, vocabulary = block[0].shape
    references, low = [], OUTSIDE / float(betas.min())
    for logits in block:
        _mask_candidates(logits, candidate_id)
        references.append(_refer(logits, low=low))
    reference = torch.stack(references, dim=1)
    shape = (rows, len(weights), len(block), len(betas))
    made = Tails(
        reference=torch.empty(shape[:2], dtype=torch.float64, device=reference.device),
        log_mass=torch.zeros((*shape[:2], shape[3]), dtype=torch.float64, device=reference.device),
        mean=torch.zeros(shape, dtype=torch.float64, device=reference.device),
        square=torch.zeros((*shape[:2], shape[3]), dtype=torch.float64, device=reference.device),
    )
    rows_at_once = max(1, TILE_ELEMENTS[reference.device.type] // vocabulary)
    for start in range(0, rows, rows_at_once):
        here = slice(start, start + rows_at_once)
        some = _Rows.of([each[here] for each in block], reference[here], uneven=uneven, low=low)
        for measure, mixture in enumerate(weights):
            some.fill(made, here, measure, mixture=mixture, betas=betas)
    return made


def _mask_candidates(
    logits: Float[torch.Tensor, "position vocabulary"],
    candidate_id: Int[torch.Tensor, "position candidate"],
) -> None:
    """Put -inf at every candidate, in place; padding repeats the row's first candidate."""
    ids = torch.where(candidate_id == PADDING_ID, candidate_id[:, :1], candidate_id)
    logits.scatter_(1, ids, -torch.inf)


def _refer(
    logits: Float[torch.Tensor, "position vocabulary"], *, low: float
) -> Float[torch.Tensor, " position"]:
    """Shift each row to a maximum of 0, in place, -inf becoming `low`; return the maxima."""
    reference = logits.amax(dim=1)
    logits.sub_(torch.where(torch.isfinite(reference), reference, 0.0)[:, None])
    logits.clamp_(min=low)
    return reference


@dataclass(frozen=True)
class _Rows:
    """A few rows, laid out for the matrix product that gives every moment.

    Attributes:
        shifted: each model's logits less its reference; `low` stands for -inf.
        features: 1, a place for the measure's x squared, each model's shifted logit, and where
            masks are uneven, whether each model has the id (its logit is 0 there if not).
        reference: each model's, 0 where it has no tail.
        low: see `shifted`.
    """

    shifted: Sequence[Float[torch.Tensor, "position vocabulary"]]
    features: Float[torch.Tensor, "position feature vocabulary"]
    reference: Float[torch.Tensor, "position model"]
    low: float

    @classmethod
    def of(
        cls,
        shifted: Sequence[Float[torch.Tensor, "position vocabulary"]],
        reference: Float[torch.Tensor, "position model"],
        *,
        uneven: bool,
        low: float,
    ) -> "_Rows":
        """Lay out these rows of every model."""
        rows, vocabulary = shifted[0].shape
        models = len(shifted)
        count = 2 + models * (2 if uneven else 1)
        features = torch.empty((rows, count, vocabulary), device=reference.device)
        features[:, 0] = 1.0
        for model, logits in enumerate(shifted):
            features[:, 2 + model] = logits
            if uneven:
                features[:, 2 + models + model] = logits > low / 2
                features[:, 2 + model] *= features[:, 2 + models + model]
        finite = torch.where(torch.isfinite(reference), reference, 0.0)
        return cls(shifted, features=features, reference=finite.double(), low=low)

    def fill(
        self,
        made: Tails,
        here: slice,
        measure: int,
        *,
        mixture: Float[torch.Tensor, " model"],
        betas: Float[torch.Tensor, " beta"],
    ) -> None:
        """Put one measure's tail of these rows into `made`."""
        models = len(mixture)
        used = mixture.nonzero().flatten().tolist()
        if len(used) == 1:
            x = self.shifted[used[0]]
            top = x.amax(dim=1)
        else:
            x = sum(self.shifted[model] * float(mixture[model]) for model in used)
            top = x.amax(dim=1)
            x.sub_(top[:, None])
        # Masked ids and candidates are this low, also where only one model of a mixture masks.
        nonempty = top > self.low / (2 * models)
        torch.mul(x, x, out=self.features[:, 1])
        sums = self._moments(x, betas=betas)
        mass = sums[:, 0]
        kept = nonempty[:, None].double()
        uneven = self.features.shape[1] > 2 + models
        # A mean over ids that a model masks would hold its stand-in for -inf: they are left out.
        of_mean = sums[:, 2 + models :].clamp(min=SMALLEST_MASS) if uneven else mass[:, None]
        own = (self.reference * mixture).sum(dim=1) + top
        made.reference[here, measure] = own.masked_fill(~nonempty, -torch.inf)
        made.log_mass[here, measure] = mass.log() * kept
        made.mean[here, measure] = sums[:, 2 : 2 + models] / of_mean * kept[:, None]
        made.square[here, measure] = sums[:, 1] / mass * kept

    def _moments(
        self, x: Float[torch.Tensor, "position vocabulary"], *, betas: Float[torch.Tensor, " beta"]
    ) -> Float[torch.Tensor, "position feature beta"]:
        """Sums over the vocabulary of exp(beta x) times each feature.

        Exponentials and products are float32 within a tile; tiles are summed in float64.
        """
        rows, count, vocabulary = self.features.shape
        tile = max(1, TILE_ELEMENTS[x.device.type] // rows)
        powers = torch.empty((rows, len(betas), min(tile, vocabulary)), device=x.device)
        total = torch.zeros((rows, count, len(betas)), dtype=torch.float64, device=x.device)
        for start in range(0, vocabulary, tile):
            piece = x[:, start : start + tile]
            tempered = powers[:, :, : piece.shape[1]]
            torch.mul(piece[:, None, :], betas[None, :, None], out=tempered)
            tempered.clamp_(min=LOWEST_EXPONENT).exp_()
            total += torch.bmm(self.features[:, :, start : start + tile], tempered.transpose(1, 2))
        return total
