"""Problems of several families, split by content, each with its prompt."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import reasoning_gym

SYSTEM = "Think step by step, then give the answer in \\boxed{}."
PREFILL = "<think>\n"
"""The prompt ends with this: the model goes on inside the thought and closes it by itself."""

SPLIT_SEED = 20
TEST_PER_LEVEL = 12
DEVELOPMENT_PER_LEVEL = 6
TRAINING_PER_LEVEL = 64
"""At most: the families of small numbers have fewer contents."""

DRAWS_PER_LEVEL = 1500
"""Problems looked at per level; repeated contents are passed over, so more than are used."""

ContentKey = tuple[str, tuple[str, ...], str]


@dataclass(frozen=True)
class Level:
    """One family at one difficulty."""

    family: str
    difficulty: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """One question with its answer; `entry` is what the verifier of reasoning-gym needs."""

    problem_id: str
    family: str
    difficulty: str
    question: str
    gold: str
    entry: dict[str, Any]
    level: Level

    @property
    def key(self) -> ContentKey:
        """What the splits hold apart; see `content_key`."""
        return content_key(self.family, self.question, self.gold)


@dataclass(frozen=True)
class Splits:
    """Three parts; no content key occurs in two of them, or twice in one.

    `training` teaches the baseline and is what it is then sampled on; settings are chosen on
    `development`; `test` is answered once, at the end.
    """

    training: tuple[Problem, ...]
    development: tuple[Problem, ...]
    test: tuple[Problem, ...]


def _digits(terms: int, low: int, high: int) -> dict[str, int]:
    return {"min_terms": terms, "max_terms": terms, "min_digits": low, "max_digits": high}


def _values(low: int, high: int) -> dict[str, int]:
    return {"min_value": low, "max_value": high}


def _equation(high: int) -> dict[str, Any]:
    sums = {"operators_weights": [0.5, 0.5, 0.0]}
    return {"min_terms": 2, "max_terms": 2, **_values(1, high), **sums}


LEVELS = (
    Level("chain_sum", "easy", _digits(2, 1, 1)),
    Level("chain_sum", "medium", _digits(3, 1, 1)),
    Level("chain_sum", "hard", _digits(2, 2, 2)),
    Level("products", "easy", _digits(2, 1, 1)),
    Level("products", "medium", _digits(3, 1, 1)),
    Level("gcd", "easy", _values(2, 12)),
    Level("gcd", "medium", _values(8, 24)),
    Level("lcm", "easy", _values(2, 12)),
    Level("simple_equations", "easy", _equation(5)),
    Level("simple_equations", "medium", _equation(9)),
)
"""The levels in use. Every answer is an integer, so a number checker can check the verifier."""


def content_key(family: str, question: str, gold: str) -> ContentKey:
    """(family, the numbers in the question in sorted order, answer).

    Order and wording are left out on purpose: `gcd(4, 6)` and `gcd(6, 4)` are one problem, and two
    questions that differ only in text are one problem.
    """
    return family, tuple(sorted(_numbers(question))), gold.strip()


def _numbers(question: str) -> list[str]:
    return re.findall(r"\d+", question)


def split_problems() -> Splits:
    """The seeded splits: one stream of distinct contents per level, cut in three.

    A content that was used at another level of its family is passed over.
    """
    seen: set[ContentKey] = set()
    training: list[Problem] = []
    development: list[Problem] = []
    test: list[Problem] = []
    counts = dict.fromkeys((level.family for level in LEVELS), 0)
    for seed, level in enumerate(LEVELS, start=SPLIT_SEED):
        drawn = list(_distinct_problems(level, seed=seed, seen=seen, first=counts[level.family]))
        counts[level.family] += len(drawn)
        held_out = TEST_PER_LEVEL + DEVELOPMENT_PER_LEVEL
        test += drawn[:TEST_PER_LEVEL]
        development += drawn[TEST_PER_LEVEL:held_out]
        training += drawn[held_out:]
    return Splits(tuple(training), tuple(development), tuple(test))


def _distinct_problems(
    level: Level, *, seed: int, seen: set[ContentKey], first: int
) -> Iterator[Problem]:
    """Problems of one level whose key is not in `seen`, which grows; numbered from `first`."""
    dataset = reasoning_gym.create_dataset(
        level.family, size=DRAWS_PER_LEVEL, seed=seed, **level.options
    )
    last = first + TEST_PER_LEVEL + DEVELOPMENT_PER_LEVEL + TRAINING_PER_LEVEL
    number = first
    for index in range(DRAWS_PER_LEVEL):
        entry = dataset[index]
        question, gold = entry["question"].strip(), str(entry["answer"])
        key = content_key(level.family, question, gold)
        if key in seen:
            continue
        seen.add(key)
        yield Problem(
            problem_id=f"{level.family}-{number:04d}",
            family=level.family,
            difficulty=level.difficulty,
            question=question,
            gold=gold,
            entry=entry,
            level=level,
        )
        number += 1
        if number == last:
            return


def prompt_messages(problem: Problem) -> list[dict[str, str]]:
    """System line and question."""
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": problem.question},
    ]
