"""Known mechanisms, planted into real rows of the demo's baseline."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import log_softmax, softmax

from benchmarks import common
from probing.analysis.distributions import Distributions, Tail
from probing.analysis.pair import PairRows, Weighted
from probing.analysis.tail import tail_betas
from probing.analysis.verdict import Mechanism
from probing.carriers.reading import read_carriers
from probing.scoring.reduced import RowSettings, join_rows
from probing.scoring.rows import reduce_rows, row_path
from probing.settings import Decoding, TailGrid
from probing.store.mixing import weighted_logits, weighted_tail_mean
from probing.store.unit import measures

Rows = Float[np.ndarray, "position vocabulary"]

ROWS_FILE = common.CACHE / "mechanism_rows.npz"
PROBLEMS, POSITIONS = 120, 16
BLOCK = 120
TOP_K = 256


@dataclass(frozen=True)
class Bank:
    """Full rows of the baseline, the same number for every problem.

    Attributes:
        logits: shape (problem, position, vocabulary), float32.
    """

    logits: np.ndarray


def bank() -> Bank:
    """Rows at evenly spread positions of one response a problem, made on the first call."""
    if not ROWS_FILE.exists():
        _make_rows()
    with np.load(ROWS_FILE) as stored:
        return Bank(stored["logits"])


def _make_rows() -> None:
    model, _ = common.full_models(torch.float32)
    records = read_carriers([str(common.EXAMPLE / "carriers.jsonl")]).carriers
    problems = {each.carrier_id: each.problem_id for each in records}
    carriers = {each.carrier_id: each for each in common.demo_carriers(len(records))}
    chosen = {}
    for name, carrier in carriers.items():
        length = len(carrier.token_ids) - carrier.response_start
        if length > POSITIONS + 1:
            chosen.setdefault(problems[name], carrier)
    rows = []
    for carrier in list(chosen.values())[:PROBLEMS]:
        ids = torch.from_numpy(carrier.token_ids.astype(np.int64))[None]
        with model.active() as causal_lm:
            logits = causal_lm(ids, use_cache=False).logits[0].float().numpy()
        places = np.linspace(carrier.response_start, len(carrier.token_ids) - 2, POSITIONS)
        rows.append(logits[places.astype(int) - 1])
    np.savez(ROWS_FILE, logits=np.stack(rows))


@dataclass(frozen=True)
class Strength:
    """How strong a planting is ("moderate" unless said otherwise).

    Attributes:
        ssd: share of the target in the mixture that the model becomes.
        training: of the SSD target.
        temperature: of a global temperature.
        bias: standard deviation of token-specific biases, nats.
        biased: share of the vocabulary that has one.
        noise: standard deviation of independent noise of every logit, nats.
        floor: share of a flat distribution in the mixture of label smoothing.
        bend: of log b = log a + bend (log a)^2, per nat.
        sharpening: by which 1 / T grows per nat of the baseline's entropy.
        trim: what improbable tokens lose, nats: those below a probability from 0.3 % to 5 %, drawn
            by `seed`.
        between: how strengths vary between problems: standard deviation of their logarithm.
        seed: of the biases, which are the same for every row of a run.
    """

    ssd: float = 0.3
    training: Decoding = field(
        default_factory=lambda: Decoding(temperature=1.1, top_k=20, top_p=0.95)
    )
    temperature: float = 1.3
    bias: float = 0.3
    biased: float = 1.0
    noise: float = 0.1
    floor: float = 0.005
    bend: float = 0.0015
    sharpening: float = 0.12
    trim: float = 0.3
    between: float = 0.3
    seed: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Planted:
    """Rows of both models, as the planting left them."""

    baseline: Rows
    other: Rows


def noise(shape: tuple[int, ...], scale: np.ndarray | float, rng: np.random.Generator) -> Rows:
    """Independent Gaussian noise, float32."""
    return rng.standard_normal(shape, dtype=np.float32) * np.asarray(scale, dtype=np.float32)


def target_mixture(logits: Rows, share: np.ndarray, training: Decoding) -> Rows:
    """Log of (1 - share) p + share q, q the SSD target of p; plainly, over whole rows.

    `training.top_k` must be switched on: only so many leading tokens are looked at.
    """
    log_p = log_softmax(logits, axis=1)
    top = np.argpartition(-log_p, training.top_k, axis=1)[:, : training.top_k]
    order = np.argsort(-np.take_along_axis(log_p, top, axis=1), axis=1, kind="stable")
    top = np.take_along_axis(top, order, axis=1)
    leading = np.take_along_axis(log_p, top, axis=1).astype(np.float64)
    weight = softmax(leading / training.temperature, axis=1)
    above = np.cumsum(weight, axis=1) - weight
    weight[(above >= training.top_p) & (training.top_p < 1)] = 0.0
    weight /= weight.sum(axis=1, keepdims=True)
    mixed = log_p + np.log1p(-share)[:, None].astype(np.float32)
    both = np.logaddexp(leading + np.log1p(-share)[:, None], np.log(share)[:, None] + _log(weight))
    np.put_along_axis(mixed, top, both.astype(np.float32), axis=1)
    return mixed


def _log(weight: np.ndarray) -> np.ndarray:
    found = np.full_like(weight, -np.inf)
    return np.log(weight, out=found, where=weight > 0)


Planting = Callable[[Rows, np.ndarray, Strength, np.random.Generator], Planted]
"""Of rows, each row's factor between problems, strengths."""


def no_effect_drift(
    rows: Rows, factor: np.ndarray, strength: Strength, rng: np.random.Generator
) -> Planted:
    """Noise in the other model alone."""
    return Planted(rows, rows + noise(rows.shape, strength.noise * factor[:, None], rng))


def no_effect_exchangeable(
    rows: Rows, factor: np.ndarray, strength: Strength, rng: np.random.Generator
) -> Planted:
    """Noise in both."""
    scale = strength.noise * factor[:, None]
    return Planted(rows + noise(rows.shape, scale, rng), rows + noise(rows.shape, scale, rng))


def temperature(
    rows: Rows, factor: np.ndarray, strength: Strength, rng: np.random.Generator
) -> Planted:
    """One temperature everywhere, but for variation between problems."""
    log_t = np.log(strength.temperature) * factor[:, None]
    tempered = rows * np.exp(-log_t).astype(np.float32)
    return Planted(rows, tempered + noise(rows.shape, strength.noise, rng))


def ssd(rows: Rows, factor: np.ndarray, strength: Strength, rng: np.random.Generator) -> Planted:
    """Part of the way to the SSD target."""
    share = np.minimum(strength.ssd * factor, 0.95)
    moved = target_mixture(rows, share, strength.training)
    return Planted(rows, moved + noise(rows.shape, strength.noise, rng))


def generic(
    rows: Rows, factor: np.ndarray, strength: Strength, rng: np.random.Generator
) -> Planted:
    """Biases of single tokens, the same everywhere."""
    moved = rows + biases(rows.shape[1], strength) * factor[:, None].astype(np.float32)
    return Planted(rows, moved + noise(rows.shape, strength.noise, rng))


def ssd_and_generic(
    rows: Rows, factor: np.ndarray, strength: Strength, rng: np.random.Generator
) -> Planted:
    """Both."""
    moved = ssd(rows, factor, strength, rng).other
    shift = biases(rows.shape[1], strength) * factor[:, None].astype(np.float32)
    return Planted(rows, moved + shift)


def temperature_and_ssd(
    rows: Rows, factor: np.ndarray, strength: Strength, rng: np.random.Generator
) -> Planted:
    """A temperature of what went part of the way to the target."""
    moved = ssd(rows, factor, strength, rng).other
    return Planted(rows, (moved / strength.temperature).astype(np.float32))


def temperature_and_generic(
    rows: Rows, factor: np.ndarray, strength: Strength, rng: np.random.Generator
) -> Planted:
    """A temperature, then biases of single tokens."""
    moved = temperature(rows, factor, strength, rng).other
    shift = biases(rows.shape[1], strength) * factor[:, None].astype(np.float32)
    return Planted(rows, moved + shift)


def smoothing(
    rows: Rows, factor: np.ndarray, strength: Strength, rng: np.random.Generator
) -> Planted:
    """Label smoothing: a mixture with the flat distribution, which lifts every tail."""
    floor = np.minimum(strength.floor * factor, 0.5)[:, None]
    flat = np.log(floor / rows.shape[1])
    moved = np.logaddexp(log_softmax(rows, axis=1) + np.log1p(-floor), flat).astype(np.float32)
    return Planted(rows, moved + noise(rows.shape, strength.noise, rng))


def bent(rows: Rows, factor: np.ndarray, strength: Strength, rng: np.random.Generator) -> Planted:
    """A change that bends with log-probability and has no edge anywhere."""
    log_a = log_softmax(rows, axis=1)
    moved = log_a + (strength.bend * factor[:, None]).astype(np.float32) * log_a**2
    return Planted(rows, moved + noise(rows.shape, strength.noise, rng))


def trimmed(
    rows: Rows, factor: np.ndarray, strength: Strength, rng: np.random.Generator
) -> Planted:
    """Improbable tokens lose, whether they were drawn in training or not."""
    cut = np.random.default_rng(strength.seed).uniform(np.log(0.003), np.log(0.05))
    log_a = log_softmax(rows, axis=1)
    lost = np.where(log_a < cut, strength.trim, 0.0) * factor[:, None]
    moved = log_a - lost.astype(np.float32)
    return Planted(rows, moved + noise(rows.shape, strength.noise, rng))


def tempered_where_uncertain(
    rows: Rows, factor: np.ndarray, strength: Strength, rng: np.random.Generator
) -> Planted:
    """A temperature at the positions where the baseline is uncertain, and nothing elsewhere."""
    log_t = np.log(strength.temperature) * factor * (entropy(rows) > UNCERTAIN)
    tempered = rows * np.exp(-log_t)[:, None].astype(np.float32)
    return Planted(rows, tempered + noise(rows.shape, strength.noise, rng))


def tempered_both_ways(
    rows: Rows, factor: np.ndarray, strength: Strength, rng: np.random.Generator
) -> Planted:
    """Colder where the baseline is uncertain, hotter elsewhere."""
    side = np.where(entropy(rows) > UNCERTAIN, -1.0, 1.0)
    log_t = np.log(strength.temperature) * factor * side
    tempered = rows * np.exp(-log_t)[:, None].astype(np.float32)
    return Planted(rows, tempered + noise(rows.shape, strength.noise, rng))


def tempered_by_entropy(
    rows: Rows, factor: np.ndarray, strength: Strength, rng: np.random.Generator
) -> Planted:
    """Sharper the more uncertain the baseline is, up to 3 nats."""
    beta = 1 + strength.sharpening * factor * np.minimum(entropy(rows), 3.0)
    sharper = rows * beta[:, None].astype(np.float32)
    return Planted(rows, sharper + noise(rows.shape, strength.noise, rng))


def trimmed_where_uncertain(
    rows: Rows, factor: np.ndarray, strength: Strength, rng: np.random.Generator
) -> Planted:
    """Improbable tokens lose, at the positions where the baseline is uncertain."""
    return trimmed(rows, factor * (entropy(rows) > UNCERTAIN), strength, rng)


def entropy(rows: Rows) -> Float[np.ndarray, " position"]:
    """Of every row, nats."""
    log_a = log_softmax(rows, axis=1)
    found: Float[np.ndarray, " position"] = -(np.exp(log_a) * log_a).sum(axis=1)
    return found


def biases(vocabulary: int, strength: Strength) -> Float[np.ndarray, " token"]:
    """Of every token; the last special token (the end of a turn stands for think-close) gains."""
    rng = np.random.default_rng(strength.seed)
    found = rng.standard_normal(vocabulary) * strength.bias
    found[rng.random(vocabulary) >= strength.biased] = 0.0
    found[END_OF_TURN] = 2 * strength.bias
    return found.astype(np.float32)


END_OF_TURN = 2

UNCERTAIN = 0.7
"""Entropy above which plantings take a position for uncertain, nats."""

PLANTINGS: dict[str, tuple[Planting, Mechanism]] = {
    "no effect, drift": (no_effect_drift, Mechanism.NONE),
    "no effect, exchangeable": (no_effect_exchangeable, Mechanism.NONE),
    "temperature": (temperature, Mechanism.TEMPERATURE),
    "ssd": (ssd, Mechanism.SSD),
    "generic": (generic, Mechanism.GENERIC),
    "ssd and generic": (ssd_and_generic, Mechanism.MIXED),
    "temperature and ssd": (temperature_and_ssd, Mechanism.MIXED),
    "temperature and generic": (temperature_and_generic, Mechanism.MIXED),
    "label smoothing": (smoothing, Mechanism.MIXED),
    "bent": (bent, Mechanism.MIXED),
    "trimmed": (trimmed, Mechanism.MIXED),
    "trimmed where uncertain": (trimmed_where_uncertain, Mechanism.MIXED),
    "temperature where uncertain": (tempered_where_uncertain, Mechanism.MIXED),
    "colder where uncertain, else hotter": (tempered_both_ways, Mechanism.MIXED),
    "sharper by entropy": (tempered_by_entropy, Mechanism.MIXED),
}


@dataclass(frozen=True)
class Sampled:
    """What analysis is given of a planting."""

    pair: PairRows
    kl: Float[np.ndarray, " position"]
    counted: Weighted


def planted(
    bank: Bank,
    planting: Planting,
    *,
    strength: Strength,
    problems: int,
    positions: int,
    rng: np.random.Generator,
) -> Sampled:
    """Draw problems and positions, plant, and keep of the rows what a run would store."""
    chosen = rng.choice(len(bank.logits), problems, replace=False)
    factors = np.exp(strength.between * rng.standard_normal(problems))
    rows, factor = [], []
    for place, problem in enumerate(chosen):
        here = rng.choice(bank.logits.shape[1], positions, replace=False)
        rows.append(bank.logits[problem, here])
        factor.append(np.full(positions, factors[place]))
    given, each = np.concatenate(rows), np.concatenate(factor)
    settings = RowSettings(
        top_k=TOP_K,
        watched=np.zeros(0, dtype=np.int64),
        temperatures=(1.0,),
        betas=tail_betas(TailGrid()),
        measures=measures(("baseline", "other")),
    )
    parts = []
    for start in range(0, len(given), BLOCK):
        block = planting(given[start : start + BLOCK], each[start : start + BLOCK], strength, rng)
        parts.append(
            reduce_rows(
                [torch.from_numpy(np.ascontiguousarray(r)) for r in (block.baseline, block.other)],
                np.zeros(len(block.baseline), dtype=np.int32),
                settings=settings,
                path=row_path(torch.device("cpu")),
            )
        )
    made = join_rows(parts)
    distributions = [
        Distributions(
            ids=made.candidate_id,
            logits=weighted_logits(made.logit, weights),
            tail=Tail(
                reference=made.tail_reference[:, measure],
                log_mass=made.tail_log_mass[:, measure],
                mean=weighted_tail_mean(
                    made.tail_mean[:, measure],
                    made.tail_reference,
                    weights=weights,
                    measure=measure,
                ),
                square=made.tail_square[:, measure],
            ),
            betas=settings.betas,
            is_mean=measure == 2,
        )
        for measure, weights in enumerate(settings.measures.weights)
    ]
    return Sampled(
        pair=PairRows(
            *distributions,
            other_over_baseline=made.tail_mean[:, 0, 1],
            baseline_over_other=made.tail_mean[:, 1, 0],
        ),
        kl=made.kl_baseline_other[:, 0, 0],
        counted=Weighted(
            weights=np.ones(len(given)),
            clusters=np.repeat(np.arange(problems), positions),
            size=problems,
        ),
    )
