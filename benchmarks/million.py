"""A synthetic run of a million positions and three models, as scoring would have written it.

Logits fall like Zipf laws of random steepness, with noise; each model adds noise of its own, and
`ssd` is a little sharper. So many full rows as `POOL` says are made and reduced by the code that
reduces real ones; every position of the run takes one of them at random.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from probing.analysis.tail import tail_betas
from probing.carriers.record import Carrier
from probing.lexicon import Lexicon
from probing.positions.select import selector_names
from probing.scoring.reduced import RowArrays, RowSettings
from probing.scoring.rows import reduce_rows, row_path
from probing.settings import ModelSpec, RunSettings, Selection, StoreLayout, TailGrid
from probing.store.manifest import Manifest
from probing.store.plan import Unit, make_plan
from probing.store.reader import Run, open_run
from probing.store.unit import UnitArrays, measures
from probing.store.writer import RunWriter, Texts
from probing.tokens.encoded import EncodedCarrier

MODELS = ("baseline", "ssd", "control")
TOP_K, VOCABULARY, POOL = 64, 4096, 4096
MODEL_NOISE, SHARPER = 0.3, 1.03
EVERY = 8
"""One position in so many of a response is in the run."""

RESPONSES = 4
"""Of a problem: two by the baseline, two by the other model."""

BLOCK = 128


@dataclass(frozen=True)
class Size:
    """How large the run is: positions in all, and problems they come from."""

    positions: int = 1_000_000
    problems: int = 1000

    @property
    def positions_a_response(self) -> int:
        """As many as it takes, rounded up."""
        return -(-self.positions // (self.problems * RESPONSES))


def made_run(path: Path, size: Size) -> Run:
    """The run of this size: the one that stands at this path, or written there now."""
    mark = path.with_name(f"{path.name}.size.json")
    wanted = {"positions": size.positions, "problems": size.problems}
    if mark.exists() and json.loads(mark.read_text()) == wanted:
        return open_run(str(path))
    shutil.rmtree(path, ignore_errors=True)
    for beside in path.parent.glob(f"{path.name}.*"):
        beside.unlink()
    _write(path, size)
    mark.write_text(json.dumps(wanted))
    return open_run(str(path))


def _write(path: Path, size: Size) -> None:
    rng, lexicon = np.random.default_rng(0), Lexicon.load()
    words = [f" word{number}" for number in range(VOCABULARY - 3)]
    words = ["<think>\n", "\n</think>\n\n", " Wait", *words]
    encoded = [_encoded(number, size, words, rng) for number in range(size.problems * RESPONSES)]
    settings = RunSettings(
        out=str(path),
        carriers=("synthetic.jsonl",),
        baseline=ModelSpec(name=MODELS[0], path="models/baseline"),
        others=tuple(ModelSpec(name=name, adapter=f"models/{name}") for name in MODELS[1:]),
        selection=Selection(interval_every=EVERY),
        store=StoreLayout(top_k=TOP_K),
    )
    manifest = Manifest(
        settings=settings,
        vocabulary_size=VOCABULARY,
        selector_names=selector_names(lexicon),
        inputs={
            "lexicon": {
                "digest": lexicon.digest,
                "groups": [asdict(group) for group in lexicon.entries],
            }
        },
    )
    each = size.positions_a_response
    plan = make_plan(
        [len(one.token_ids) for one in encoded], [each] * len(encoded), layout=settings.store
    )
    pool = _pool(settings, rng)
    carriers = [_carrier(number, one, rng) for number, one in enumerate(encoded)]
    texts = Texts(carriers, encoded, [word.encode() for word in words])
    with RunWriter.create(path, plan=plan, manifest=manifest, texts=texts) as writer:
        for unit in plan.units:
            writer.write_unit(unit, _unit(unit, encoded, each, pool, manifest, rng))
        writer.finish({})


def _encoded(number: int, size: Size, words: list[str], rng: np.random.Generator) -> EncodedCarrier:
    """A prompt of 40 tokens, and a response that closes its thought near the end."""
    length = size.positions_a_response * EVERY
    ids = rng.integers(2, VOCABULARY, size=40 + length).astype(np.int32)
    ids[40], ids[40 + length * 9 // 10] = 0, 1
    texts = [words[token] for token in ids[40:]]
    ends = np.cumsum([len(text) for text in texts])
    return EncodedCarrier(
        carrier_id=f"response-{number:05d}",
        token_ids=ids,
        response_start=40,
        char_spans=np.stack([ends - [len(text) for text in texts], ends], axis=1),
        response_text="".join(texts),
        seam_moved=False,
    )


def _carrier(number: int, encoded: EncodedCarrier, rng: np.random.Generator) -> Carrier:
    return Carrier(
        carrier_id=encoded.carrier_id,
        problem_id=f"problem-{number // RESPONSES:04d}",
        prompt=f"Problem {number // RESPONSES}",
        response=encoded.response_text,
        generator=MODELS[number % 2],
        correct=bool(rng.random() < 0.6),
        subject=("algebra", "geometry", "numbers")[number // RESPONSES % 3],
        difficulty=("easy", "hard")[number // RESPONSES % 2],
        temperature=1.0,
    )


def _pool(settings: RunSettings, rng: np.random.Generator) -> RowArrays:
    """What is stored of so many rows of full logits."""
    asked = RowSettings(
        top_k=TOP_K,
        watched=np.zeros(0, dtype=np.int64),
        temperatures=settings.scoring.temperatures,
        betas=tail_betas(TailGrid()),
        measures=measures(MODELS),
    )
    shape = (POOL, VOCABULARY)
    law = -rng.uniform(0.8, 4.0, size=(POOL, 1)) * np.log1p(np.arange(VOCABULARY))
    law += rng.normal(0, 0.5, size=shape)
    law = np.take_along_axis(
        law, rng.permuted(np.tile(np.arange(VOCABULARY), (POOL, 1)), axis=1), 1
    )
    logits = [
        torch.from_numpy((scale * law + rng.normal(0, MODEL_NOISE, size=shape)).astype(np.float32))
        for scale in (1.0, SHARPER, 1.0)
    ]
    tokens = law.argmax(axis=1).astype(np.int32)
    return reduce_rows(logits, tokens, settings=asked, path=row_path(torch.device("cpu")))


def _unit(
    unit: Unit,
    encoded: list[EncodedCarrier],
    each: int,
    pool: RowArrays,
    manifest: Manifest,
    rng: np.random.Generator,
) -> UnitArrays:
    position = np.tile(np.arange(each) * EVERY, len(unit.carriers)).astype(np.int32)
    carrier = np.repeat(unit.carriers, each).astype(np.int32)
    spans = np.concatenate([encoded[one].char_spans[::EVERY] for one in unit.carriers])
    tokens = np.concatenate([encoded[one].token_ids[40::EVERY] for one in unit.carriers])
    bit = manifest.selector_names.index("interval")
    taken = rng.integers(POOL, size=len(position))
    return UnitArrays(
        carrier=carrier,
        position=position,
        token_id=tokens,
        selectors=np.full(len(position), 1 << bit, dtype=np.uint32),
        inclusion=np.full(len(position), 1 / EVERY),
        phase=(position >= each * EVERY * 9 // 10).astype(np.uint8),
        char_start=spans[:, 0].astype(np.int32),
        char_end=spans[:, 1].astype(np.int32),
        **{name: values[taken] for name, values in pool._asdict().items()},
    )
