"""A small run with everything a page meets: every stratum, every kind, hostile and broken text.

Its full-vocabulary logits are returned too, so that figures can be worked out again the slow way.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from probing.analysis.tail import tail_betas
from probing.carriers.record import Carrier
from probing.lexicon import Lexicon
from probing.positions.select import select_positions, selector_names
from probing.positions.selected import SelectedPositions
from probing.settings import Decoding, ModelSpec, RunSettings, Selection, StoreLayout
from probing.store.manifest import Manifest
from probing.store.plan import Unit, make_plan
from probing.store.reader import Run, open_run
from probing.store.unit import UnitArrays, measures
from probing.store.writer import RunWriter, Texts
from probing.tokens.encoded import EncodedCarrier
from probing.vocabulary import PADDING_ID

MODELS = ("baseline", "ssd", "control")
TOP_K = 32
TEMPERATURES = (1.0, 1.5)
WARM = Decoding(temperature=1.3, top_k=12, top_p=0.9)
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=http://example.org/x.png>",
    "![x](http://example.org/y.png)",
    '=HYPERLINK("http://example.org","x")',
    "**bold**",
    "$x^2$",
    ":red[x]",
    "⟦mark⟧",
    "\u202eright-to-left",
    "\x07",
    "\r\n",
    "-1+1",
    "@SUM(A1)",
)
HIDDEN = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
BROKEN = (b"\xe2\x9c", b"\x93", b"\xff")
HALVES = {"✓": BROKEN[:2]}
"""A character that two tokens share."""

TEMPLATE = (
    "<think>\nLet x be the number of {things}. Each box holds {a} {things}; there are {b} boxes, "
    "so we multiply {a} by {b}. Wait, let me check: {a} times {b} is {c}.\n\nSuppose one box is "
    "missing. Then the sum would be smaller, maybe {d}.\n</think>\n\nThe answer is **{c}**, so "
    "\\boxed{{{c}}}."
)
THINGS = ("apples", "pens", "coins", "cards", "stones")


@dataclass(frozen=True)
class PagesRun:
    """The run, and what it was made from.

    Attributes:
        path: of the run.
        logits: full rows, float32, by row of the run: (row, model, vocabulary).
        vocabulary: bytes of every id.
    """

    path: Path
    logits: np.ndarray
    vocabulary: list[bytes]

    def open(self) -> Run:
        return open_run(str(self.path))


def write_pages_run(
    path: Path,
    *,
    problems: int = 44,
    models: tuple[str, ...] = MODELS,
    take: tuple[int, ...] | None = None,
    finish: bool = True,
    shard_rows: int = 256,
    measured: Mapping[str, Any] | None = None,
    known: Mapping[str, Any] | None = None,
    more: Sequence[Carrier] = (),
    coarse: bool = False,
) -> PagesRun:
    """Write a run of `problems` problems, one or two carriers each, and `more` carriers.

    The same arguments give the same run. `take` says whose logits each model gets: (1, 0) swaps two
    models, (0, 0) makes them the same. Without `finish` the last unit and the default statistics
    are missing, as in a run that is being written. `measured` is what scoring writes at its end,
    `known` further parts of the manifest. `coarse` rounds logits to halves, so that many are tied.
    """
    rng = np.random.default_rng(0)
    carriers = [*_carriers(problems, models, rng), *more]
    vocabulary = _vocabulary(carriers)
    encoded = [_encode(carrier, vocabulary) for carrier in carriers]
    lexicon, selection = Lexicon.load(), Selection(interval_every=6, random_count=6)
    chosen = [
        select_positions(one, selection=selection, lexicon=lexicon, rng=np.random.default_rng(i))
        for i, one in enumerate(encoded)
    ]
    settings = RunSettings(
        out=str(path),
        carriers=("responses.jsonl",),
        baseline=ModelSpec(name=models[0], path="models/baseline"),
        others=tuple(ModelSpec(name=name, adapter=f"models/{name}") for name in models[1:]),
        selection=selection,
        store=StoreLayout(
            top_k=TOP_K,
            max_watched=4,
            shard_rows=shard_rows,
            chunk_rows=min(64, shard_rows),
            chunk_candidates=32,
        ),
    )
    settings = dataclasses.replace(
        settings, scoring=dataclasses.replace(settings.scoring, temperatures=TEMPERATURES)
    )
    manifest = Manifest(
        settings=settings,
        vocabulary_size=len(vocabulary),
        selector_names=selector_names(lexicon),
        inputs={
            "lexicon": {
                "digest": lexicon.digest,
                "groups": [dataclasses.asdict(group) for group in lexicon.entries],
            }
        },
        **(known or {}),
    )
    plan = make_plan(
        [len(one.token_ids) for one in encoded],
        [len(one.position) for one in chosen],
        layout=settings.store,
    )
    logits = []
    with RunWriter.create(
        path,
        plan=plan,
        manifest=manifest,
        texts=Texts(carriers, encoded, vocabulary),
    ) as writer:
        for unit in plan.units if finish else plan.units[:-1]:
            rows = _logits(unit, encoded, chosen, size=len(vocabulary), models=models, rng=rng)
            rows = rows if take is None else rows[:, take]
            rows = np.round(2 * rows) / 2 if coarse else rows
            writer.write_unit(unit, _unit_arrays(unit, rows, encoded, chosen, settings=settings))
            logits.append(rows)
        if finish:
            writer.finish(dict(measured or {}))
    nothing = np.empty((0, len(models), len(vocabulary)), dtype=np.float32)
    return PagesRun(path=path, logits=np.concatenate([nothing, *logits]), vocabulary=vocabulary)


def long_carrier(tokens: int) -> Carrier:
    """A response of so many tokens or a few more, nearly all of them thought; hostile in places."""
    text, count = "<think>\n", 2
    for turn in range(tokens):
        line = f"Wait, box {turn} holds {turn * 7 % 100} pens. {HOSTILE[turn % len(HOSTILE)]}\n"
        text, count = text + line, count + len(_pieces(line))
        if count >= tokens - 100:
            break
    ending = "</think>\n\nSo the answer is **12**, \\boxed{12}." + " Let it be so." * 20
    return Carrier(
        carrier_id="long",
        problem_id="p-long",
        prompt="How many pens are in the boxes?",
        response=text + ending,
        generator="ssd",
        correct=True,
    )


def _carriers(problems: int, models: tuple[str, ...], rng: np.random.Generator) -> list[Carrier]:
    carriers = []
    for problem in range(problems):
        for copy in range(1 + problem % 2):
            a, b = int(rng.integers(2, 20)), int(rng.integers(2, 20))
            text = TEMPLATE.format(
                things=THINGS[problem % len(THINGS)], a=a, b=b, c=a * b, d=a * (b - 1)
            )
            text = text[: int(rng.integers(len(text) // 2, len(text) + 1))]
            if problem % 3 == 0:
                text += f" {HOSTILE[problem // 3 % len(HOSTILE)]} Let it be."
            carriers.append(
                Carrier(
                    carrier_id=f"c{problem:03d}-{copy}",
                    problem_id=f"p{problem:03d}",
                    prompt=f"How many {THINGS[problem % len(THINGS)]} are in {b} boxes of {a}?",
                    response=text,
                    generator=models[(problem + copy) % 2],
                    correct=(True, False, None)[int(rng.choice(3, p=[0.4, 0.4, 0.2]))],
                    sampling_probability=1.0 if problem % 4 else 0.5,
                    subject=THINGS[problem % len(THINGS)],
                    difficulty=("easy", "hard")[problem % 2],
                    temperature=(0.6, 1.0)[copy],
                )
            )
    return carriers


def _pieces(text: str) -> list[str]:
    hostile = "|".join(re.escape(word) for word in HOSTILE)
    return re.findall(rf" ?(?:{hostile})|</?think>|\\boxed| ?[A-Za-z]+|\d|\n+|\s|[^\s\w]", text)


def _vocabulary(carriers: list[Carrier]) -> list[bytes]:
    texts = [text for c in carriers for text in (c.prompt or "", c.response)]
    words = sorted({piece for text in texts for piece in _pieces(text)})
    filler = [f" word{number}" for number in range(180)]
    return [b"<|im_start|>", *(word.encode() for word in words), *BROKEN, *map(str.encode, filler)]


def _encode(carrier: Carrier, vocabulary: list[bytes]) -> EncodedCarrier:
    place = {content: index for index, content in enumerate(vocabulary)}
    prompt = [0, *(place[piece.encode()] for piece in _pieces(carrier.prompt or ""))]
    response = _pieces(carrier.response)
    assert "".join(response) == carrier.response
    ends = np.cumsum([len(piece) for piece in response])
    spans = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1)
    raw = [HALVES.get(piece, (piece.encode(),)) for piece in response]
    return EncodedCarrier(
        carrier_id=carrier.carrier_id,
        token_ids=np.array(
            [*prompt, *(place[half] for halves in raw for half in halves)], dtype=np.int32
        ),
        response_start=len(prompt),
        char_spans=np.repeat(spans, [len(halves) for halves in raw], axis=0),
        response_text=carrier.response,
        seam_moved=False,
    )


def _logits(
    unit: Unit,
    encoded: list[EncodedCarrier],
    chosen: list[SelectedPositions],
    *,
    size: int,
    models: tuple[str, ...],
    rng: np.random.Generator,
) -> np.ndarray:
    rows = []
    for carrier in unit.carriers:
        one = encoded[carrier]
        for position in chosen[carrier].position:
            row = rng.normal(size=size)
            shape = rng.choice(["lock", "fork", "diffuse", "mixed"], p=[0.5, 0.25, 0.1, 0.15])
            heads = {
                "lock": [11.0 + rng.normal(), 6.5, 6.0],
                "fork": [8.2, 8.0, 7.6, 7.5, 6.0],
                "diffuse": [3.0, 2.5],
                "mixed": [7.5, 6.5],
            }[str(shape)]
            places = rng.choice(size, len(heads), replace=False)
            row[places] = np.array(heads) + rng.normal(size=len(heads)) / 3
            realised = one.token_ids[one.response_start + position]
            row[realised] = max(row[realised], np.sort(row)[-1 - int(rng.integers(0, 2))] + 0.1)
            sharper = {"lock": 1.06, "fork": 0.99, "diffuse": 1.1, "mixed": 1.03}[str(shape)]
            others = [sharper * row, row]
            rows.append(
                [row, *(other + rng.normal(size=size) / 8 for other in others[: len(models) - 1])]
            )
    return np.array(rows, dtype=np.float32)


def _unit_arrays(
    unit: Unit,
    logits: np.ndarray,
    encoded: list[EncodedCarrier],
    chosen: list[SelectedPositions],
    *,
    settings: RunSettings,
) -> UnitArrays:
    carrier = np.repeat(unit.carriers, unit.carrier_rows)
    picked = [chosen[index] for index in unit.carriers]
    position = np.concatenate([one.position for one in picked])
    spans = np.concatenate(
        [encoded[i].char_spans[one.position] for i, one in zip(unit.carriers, picked, strict=True)]
    )
    token_id = np.concatenate(
        [
            encoded[i].token_ids[encoded[i].response_start + one.position]
            for i, one in zip(unit.carriers, picked, strict=True)
        ]
    )
    ids, inside = _candidates(logits, top_k=settings.store.top_k)
    taken = np.take_along_axis(logits, np.maximum(ids, 0)[:, None, :].astype(np.int64), axis=2)
    realised = np.take_along_axis(logits, token_id[:, None, None].astype(np.int64), axis=2)[..., 0]
    names = (settings.baseline.name, *(other.name for other in settings.others))
    weights = measures(names).weights
    logs = [_log_softmax(logits / t) for t in TEMPERATURES]
    return UnitArrays(
        carrier=carrier,
        position=position,
        token_id=token_id,
        selectors=np.concatenate([one.selectors for one in picked]),
        inclusion=np.concatenate([one.inclusion for one in picked]),
        phase=np.concatenate([one.phase for one in picked]),
        char_start=spans[:, 0],
        char_end=spans[:, 1],
        candidate_id=ids,
        logit=np.where(ids[:, None, :] == PADDING_ID, -np.inf, taken).astype(np.float32),
        realised_logit=realised,
        realised_rank=1 + (logits > realised[..., None]).sum(axis=2),
        masked=np.zeros(realised.shape, dtype=np.int32),
        log_z=np.stack([_log_z(logits / t) for t in TEMPERATURES], axis=2),
        kl_baseline_other=_pairwise(logs, lambda p, q: _kl(p, q)),
        kl_other_baseline=_pairwise(logs, lambda p, q: _kl(q, p)),
        js=_pairwise(logs, _js),
        **_tails(logits, inside, weights, betas=tail_betas(settings.tail)),
    )


def _candidates(logits: np.ndarray, *, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    """Union of the models' top-k ids by best rank, padded; and the mask over the vocabulary."""
    rank = np.argsort(np.argsort(-logits, axis=2, kind="stable"), axis=2).min(axis=1)
    inside = rank < top_k
    width = int(inside.sum(axis=1).max())
    order = np.argsort(np.where(inside, rank, rank.max() + 1), axis=1, kind="stable")[:, :width]
    ids = np.where(np.take_along_axis(inside, order, axis=1), order, PADDING_ID)
    return ids.astype(np.int32), inside


def _tails(
    logits: np.ndarray, inside: np.ndarray, weights: np.ndarray, *, betas: np.ndarray
) -> dict[str, np.ndarray]:
    measured = np.einsum("mk,rkv->rmv", weights, logits.astype(np.float64))
    outside = np.where(inside[:, None, :], -np.inf, measured)
    reference = outside.max(axis=2)
    shifted = outside - reference[..., None]
    own = np.where(inside[:, None, :], 0.0, logits - reference[:, : logits.shape[1], None])
    finite = np.where(inside[:, None, :], 0.0, shifted)
    log_mass, mean, square = [], [], []
    for beta in betas:
        mass = np.exp(beta * shifted)
        total = mass.sum(axis=2)
        share = mass / total[..., None]
        log_mass.append(np.log(total))
        mean.append(np.einsum("rmv,rkv->rmk", share, own))
        square.append((share * finite**2).sum(axis=2))
    return {
        "tail_reference": reference.astype(np.float32),
        "tail_log_mass": np.stack(log_mass, axis=-1),
        "tail_mean": np.stack(mean, axis=-1),
        "tail_square": np.stack(square, axis=-1),
    }


def _log_z(scaled: np.ndarray) -> np.ndarray:
    top = scaled.max(axis=-1).astype(np.float64)
    return top + np.log(np.exp(scaled - top[..., None]).sum(axis=-1))


def _log_softmax(scaled: np.ndarray) -> np.ndarray:
    return scaled - _log_z(scaled)[..., None]


def _kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (np.exp(p) * (p - q)).sum(axis=-1)


def _js(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    middle = np.logaddexp(p, q) - np.log(2)
    return (_kl(p, middle) + _kl(q, middle)) / 2


def _pairwise(logs: list[np.ndarray], divergence) -> np.ndarray:  # noqa: ANN001
    """(position, pair, temperature)."""
    return np.stack([divergence(log[:, :1], log[:, 1:]) for log in logs], axis=2)


def hidden(text: str) -> set[str]:
    return {c for c in text if unicodedata.category(c) in HIDDEN}
