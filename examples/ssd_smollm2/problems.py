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
HELD_OUT_PER_LEVEL = 7
TRAINING_PER_LEVEL = 14
DRAWS_PER_LEVEL = 400
"""Problems looked at per level; repeated contents are passed over, so more than are used."""

ContentKey = tuple[str, tuple[str, ...], str]


@dataclass(frozen=True)
class Level:
    """One family at one difficulty, with the worked example that its prompts show."""

    family: str
    difficulty: str
    options: dict[str, Any]
    example_question: str
    example_thought: str
    example_answer: str


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
        """What the split holds apart; see `content_key`."""
        return content_key(self.family, self.question, self.gold)


@dataclass(frozen=True)
class Split:
    """Training and held-out problems; no content key occurs in both, or twice."""

    training: tuple[Problem, ...]
    held_out: tuple[Problem, ...]


_SUM = "State the final answer to the following arithmetic problem: {} ="
_PRODUCT = "Solve the following multiplication: {}. Give only the result as your final answer."
_GCD = (
    "Find the Greatest Common Divisor (GCD) of these numbers: {}. "
    "Give only the GCD as your final answer."
)
_LCM = "Find the Least Common Multiple (LCM) of these numbers: {}"


def _digits(terms: int, low: int, high: int) -> dict[str, int]:
    return {"min_terms": terms, "max_terms": terms, "min_digits": low, "max_digits": high}


def _values(low: int, high: int) -> dict[str, int]:
    return {"min_value": low, "max_value": high}


LEVELS = (
    Level("chain_sum", "easy", _digits(2, 1, 1), _SUM.format("3 + 4"), "3 + 4 = 7.", "7"),
    Level("chain_sum", "medium", _digits(2, 2, 2), _SUM.format("31 + 12"), "31 + 12 = 43.", "43"),
    Level(
        "chain_sum",
        "hard",
        _digits(3, 1, 1),
        _SUM.format("6 + 5 - 2"),
        "6 + 5 = 11. 11 - 2 = 9.",
        "9",
    ),
    Level("products", "easy", _digits(2, 1, 1), _PRODUCT.format("3 * 4"), "3 * 4 = 12.", "12"),
    Level("products", "medium", _digits(2, 1, 2), _PRODUCT.format("12 * 4"), "12 * 4 = 48.", "48"),
    Level(
        "gcd",
        "easy",
        _values(2, 12),
        _GCD.format("4, 6"),
        "4 = 2 * 2. 6 = 2 * 3. Both have 2.",
        "2",
    ),
    Level(
        "gcd",
        "medium",
        _values(10, 30),
        _GCD.format("12, 21"),
        "12 = 3 * 4. 21 = 3 * 7. Both have 3.",
        "3",
    ),
    Level("lcm", "easy", _values(2, 9), _LCM.format("4, 6"), "Multiples of 6: 6, 12.", "12"),
    Level("lcm", "medium", _values(4, 15), _LCM.format("6, 9"), "Multiples of 9: 9, 18.", "18"),
)
"""The levels in use. Every answer is an integer, so a number checker can check the verifier."""


def content_key(family: str, question: str, gold: str) -> ContentKey:
    """(family, the numbers in the question in sorted order, answer).

    Order and wording are left out on purpose: `gcd(4, 6)` and `gcd(6, 4)` are one problem, and two
    questions that differ only in text are one problem.
    """
    return family, tuple(sorted(re.findall(r"\d+", question))), gold.strip()


def split_problems() -> Split:
    """The seeded split: one stream of distinct contents per level, cut in two.

    A content already used, at whatever level, or shown as a worked example, is passed over: a
    held-out key can occur neither in training nor in a prompt's example.
    """
    seen = {content_key(lv.family, lv.example_question, lv.example_answer) for lv in LEVELS}
    training: list[Problem] = []
    held_out: list[Problem] = []
    counts = dict.fromkeys((level.family for level in LEVELS), 0)
    for seed, level in enumerate(LEVELS, start=SPLIT_SEED):
        distinct = _distinct_problems(level, seed=seed, seen=seen, first=counts[level.family])
        drawn = [next(distinct) for _ in range(HELD_OUT_PER_LEVEL + TRAINING_PER_LEVEL)]
        held_out += drawn[:HELD_OUT_PER_LEVEL]
        training += drawn[HELD_OUT_PER_LEVEL:]
        counts[level.family] += len(drawn)
    return Split(tuple(training), tuple(held_out))


def _distinct_problems(
    level: Level, *, seed: int, seen: set[ContentKey], first: int
) -> Iterator[Problem]:
    """Problems of one level whose key is not in `seen`, which grows; numbered from `first`."""
    dataset = reasoning_gym.create_dataset(
        level.family, size=DRAWS_PER_LEVEL, seed=seed, **level.options
    )
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


def prompt_messages(problem: Problem) -> list[dict[str, str]]:
    """System line, one worked example of the problem's level, and the question."""
    level = problem.level
    worked = f"{PREFILL}{level.example_thought}\n</think>\n\\boxed{{{level.example_answer}}}"
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": level.example_question},
        {"role": "assistant", "content": worked},
        {"role": "user", "content": problem.question},
    ]
