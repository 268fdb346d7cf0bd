"""Small runs of tiny models: six carriers, a baseline, a trained checkpoint and an adapter."""

import json
from collections.abc import Callable
from pathlib import Path

from tiny import TinyPair

from probing.scoring.run import ScoreReport, score
from probing.settings import ModelSpec, RunSettings, Scoring, Selection, StoreLayout, TailGrid

TEXTS = (
    ("What is 3 + 4?", "<think>\nLet me add: 3 + 4 = 7. Wait, yes.\n</think>\n\nIt is \\boxed{7}."),
    ("What is 5 + 6?", "<think>\nWe add. Hmm, 11.\n</think>\n\n**Answer**: 11"),
    ("How many legs do 3 spiders have?", "Suppose each has 8. Then 3 spiders have 24 legs."),
    ("Is the train late?", "Let x be noon. Alternatively, at 9. naïve café – ✓ ünïcode"),
    ("Sum?", "Actually, yes."),
    ("Sum of all apples?", "Let x be the number of apples. Maybe 42, so the answer is 42." * 3),
)

TOP_K = 24


class Recorder:
    """A progress that only remembers, and may do something at the first advance."""

    def __init__(self, at_advance: Callable[[int], None] = lambda _: None) -> None:
        self.total = 0
        self.done = 0
        self.notes: list[str] = []
        self._at_advance: Callable[[int], None] | None = at_advance

    def start(self, total_positions: int, *, stored: int) -> None:
        self.total, self.done = total_positions, stored

    def advance(self, positions: int) -> None:
        self.done += positions
        (act, self._at_advance) = (self._at_advance, None)
        if act is not None:
            act(self.done)

    def note(self, text: str) -> None:
        self.notes.append(text)


def record(index: int, **fields: object) -> str:
    prompt, response = TEXTS[index]
    document = {
        "carrier_id": f"c{index}",
        "problem_id": f"p{index}",
        "prompt": prompt,
        "response": response,
        "generator": "base" if index % 2 else "ssd",
    }
    return json.dumps({**document, **fields}) + "\n"


def write_carriers(path: Path) -> Path:
    path.write_text("".join(record(i) for i in range(len(TEXTS))), encoding="utf-8")
    return path


def tiny_settings(out: Path, pair: TinyPair, *, adapter: Path, carriers: Path) -> RunSettings:
    return RunSettings(
        out=str(out),
        carriers=(str(carriers),),
        baseline=ModelSpec(name="base", path=str(pair.baseline)),
        others=(
            ModelSpec(name="ssd", path=str(pair.trained)),
            ModelSpec(name="control.1", adapter=str(adapter)),
        ),
        selection=Selection(interval_every=5, random_count=4, marker_window=0),
        store=StoreLayout(
            top_k=TOP_K, max_watched=6, shard_rows=32, chunk_rows=8, chunk_candidates=8
        ),
        tail=TailGrid(nodes=6),
        scoring=Scoring(
            device="cpu", token_budget=96, chunk_tokens=40, head_rows=7, temperatures=(1.0, 1.5)
        ),
    )


def scored(settings: RunSettings) -> ScoreReport:
    return score(settings, progress=Recorder())
