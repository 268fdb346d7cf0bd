"""Plant known mechanisms into real rows, and see whether the verdict names them.

Rows are the demo baseline's, whole; each run draws problems and positions, plants one mechanism
whose strength varies between problems, adds noise, keeps what a run would store, and asks for the
verdict. Runs go through the plantings in turn.

    python -m benchmarks.mechanism_recovery --seed S --runs N [--json F]

It prints how often which word was given, and the gaps: mean over runs, and least and largest.

"Moderate" strengths are those of `planting.Strength`; `--strengths` also plants weaker and stronger
ones, and other (T, k, p) of the target.
"""

from collections import Counter
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from benchmarks import common
from benchmarks.planting import PLANTINGS, Bank, Planting, Strength, bank, planted
from probing.analysis.mechanism import Reading, evidence
from probing.analysis.verdict import Mechanism, verdict
from probing.settings import Decoding, KindRule, Rules

PURE = ("temperature", "ssd", "generic")
NO_EFFECT = ("no effect, drift", "no effect, exchangeable")
NO_SSD = (
    "temperature",
    "generic",
    "temperature and generic",
    "label smoothing",
    "bent",
    "trimmed",
    "trimmed where uncertain",
    "temperature where uncertain",
    "colder where uncertain, else hotter",
    "sharper by entropy",
)
AT_ONE = Decoding(temperature=1.0, top_k=50, top_p=0.95)
OTHER_STRENGTHS: dict[str, Strength] = {
    "ssd 0.1": Strength(ssd=0.1),
    "ssd 0.6": Strength(ssd=0.6),
    "ssd 0.3 at T 1.6, k 20, p 0.8": Strength(
        training=Decoding(temperature=1.6, top_k=20, top_p=0.8)
    ),
    "ssd 0.3 at T 0.8, k 20, p 0.9": Strength(
        training=Decoding(temperature=0.8, top_k=20, top_p=0.9)
    ),
    "ssd 0.3 at T 1, k 50, p 0.95": Strength(training=AT_ONE),
    "temperature 0.8": Strength(temperature=0.8),
    "temperature 1.1": Strength(temperature=1.1),
    "generic, a tenth of the tokens": Strength(bias=1.0, biased=0.1),
    "generic 0.1": Strength(bias=0.1),
    "label smoothing 0.001": Strength(floor=0.001),
    "label smoothing 0.02": Strength(floor=0.02),
    "trimmed by 1": Strength(trim=1.0),
    "trimmed where uncertain, by 1": Strength(trim=1.0),
    "temperature where uncertain 0.8": Strength(temperature=0.8),
    "temperature where uncertain 0.8, T_train 1": Strength(temperature=0.8, training=AT_ONE),
    "temperature where uncertain 1.3, T_train 1": Strength(training=AT_ONE),
    "colder where uncertain, else hotter, T_train 1": Strength(training=AT_ONE),
    "sharper by entropy, T_train 1": Strength(training=AT_ONE),
}


BY_LENGTH = sorted(PLANTINGS, key=len, reverse=True)
"""Plantings, so that a name is told from one that begins it."""


class Answer(NamedTuple):
    """What one run was called, and its gap, nats."""

    mechanism: Mechanism
    gap: float


def answer(
    rows: Bank, planting: Planting, strength: Strength, *, problems: int, positions: int, seed: Any
) -> Answer:
    """One run."""
    rng = np.random.default_rng(seed)
    strength = replace(strength, seed=tuple(seed))
    sampled = planted(
        rows, planting, strength=strength, problems=problems, positions=positions, rng=rng
    )
    found = evidence(
        sampled.pair,
        kl=sampled.kl,
        counted=sampled.counted,
        reading=Reading(training=strength.training, kinds=Decoding(), rule=KindRule()),
        rng=rng,
    )
    return Answer(verdict(found, rules=Rules()).mechanism, found.figures["gap"].own.value)


def main() -> None:
    """Plant and print."""
    parser = common.parser(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--problems", type=int, default=60)
    parser.add_argument("--positions", type=int, default=8, help="of each problem")
    parser.add_argument("--strengths", action="store_true", help="weaker and stronger ones too")
    asked = parser.parse_args()
    print(common.machine())
    rows, names = bank(), list(PLANTINGS)
    answers: dict[str, list[Answer]] = {name: [] for name in names}
    for run in range(asked.runs):
        name = names[run % len(names)]
        planting, _ = PLANTINGS[name]
        said = answer(
            rows,
            planting,
            Strength(),
            problems=asked.problems,
            positions=asked.positions,
            seed=[asked.seed, run],
        )
        answers[name].append(said)
    matrix = _print(answers)
    figures = summary(matrix)
    print(", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    if asked.strengths:
        others = _print(_other_strengths(rows, asked))
        figures["other_strengths"] = {name: dict(found) for name, found in others.items()}
    common.write_json(
        asked.json,
        {
            "matrix": {name: dict(found) for name, found in matrix.items()},
            **figures,
            "runs": asked.runs,
            "seed": asked.seed,
            "problems": asked.problems,
            "positions": asked.positions,
        },
    )


def summary(matrix: dict[str, Counter[str]]) -> dict[str, Any]:
    """The three rates that have a target."""

    def share(names: tuple[str, ...], wanted: Any) -> float:
        told = [(name, said, n) for name in names for said, n in matrix[name].items()]
        total = sum(n for _, _, n in told)
        return sum(n for name, said, n in told if wanted(name, said)) / max(total, 1)

    return {
        "accuracy_pure": share(PURE, lambda name, said: said == PLANTINGS[name][1].value),
        "no_effect_false_alarm": share(NO_EFFECT, lambda _, said: said != Mechanism.NONE.value),
        "ssd_false_alarm": share(NO_SSD, lambda _, said: said == Mechanism.SSD.value),
    }


def _other_strengths(rows: Bank, asked: Any) -> dict[str, list[Answer]]:
    found: dict[str, list[Answer]] = {}
    each = max(asked.runs // len(PLANTINGS) // 2, 1)
    for place, (name, strength) in enumerate(OTHER_STRENGTHS.items()):
        planting, _ = PLANTINGS[next(each for each in BY_LENGTH if name.startswith(each))]
        found[name] = [
            answer(
                rows,
                planting,
                strength,
                problems=asked.problems,
                positions=asked.positions,
                seed=[asked.seed, 10_000 + place, run],
            )
            for run in range(each)
        ]
    return found


def _print(answers: dict[str, list[Answer]]) -> dict[str, Counter[str]]:
    """Print, and count the words."""
    matrix = {
        name: Counter(each.mechanism.value for each in found) for name, found in answers.items()
    }
    labels = [each.value for each in Mechanism]
    width = max(map(len, matrix)) + 2
    print(f"{'planted':{width}}" + "".join(f"{label:>22}" for label in labels) + "   gap, nats")
    for name, found in matrix.items():
        gaps = np.array([each.gap for each in answers[name]])
        said = "".join(f"{found[label]:22}" for label in labels)
        print(f"{name:{width}}{said}   {gaps.mean():+.2f} ({gaps.min():+.2f} to {gaps.max():+.2f})")
    return matrix


if __name__ == "__main__":
    main()
