"""What a response answered, and whether that is right."""

import logging
from dataclasses import dataclass

import math_verify
import reasoning_gym
from problems import Problem
from sampling import Response

logger = logging.getLogger("ssd_smollm2")

BOXED = "\\boxed{"


@dataclass(frozen=True)
class Grade:
    """`correct` is None when the response holds nothing that can be called right or wrong.

    The rule: a boxed answer is right where the verifier of reasoning-gym gives 1, and wrong where
    it does not, unless no number can be read from it (then None). No boxed answer is wrong when
    the model ended its turn by itself, and None when it was cut by the length limit.
    """

    answer: str | None
    correct: bool | None


def grade(response: Response) -> Grade:
    """Grade by the verifier; math-verify checks it, and disagreements are logged."""
    answer = last_boxed(response.response)
    if answer is None:
        return Grade(None, False if response.finish_reason == "stop" else None)
    right = _verifier_says(response.problem, answer)
    readable = math_verify.parse(f"${answer}$", parsing_timeout=None)
    gold = math_verify.parse(f"${response.problem.gold}$", parsing_timeout=None)
    right_by_value = bool(math_verify.verify(gold, readable, timeout_seconds=None))
    if right != right_by_value:
        logger.warning(
            "graders disagree on %s: answer %r, gold %r, reasoning-gym %s, math-verify %s",
            response.problem.problem_id,
            answer,
            response.problem.gold,
            right,
            right_by_value,
        )
    return Grade(answer, right if right or readable else None)


def last_boxed(text: str) -> str | None:
    r"""Content of the last closed `\boxed{…}`, nested braces kept; None if there is none."""
    start = text.rfind(BOXED)
    while start >= 0:
        content = _up_to_closing_brace(text[start + len(BOXED) :])
        if content is not None:
            return content.strip()
        start = text.rfind(BOXED, 0, start)
    return None


def _up_to_closing_brace(text: str) -> str | None:
    depth = 1
    for index, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[:index]
    return None


def _verifier_says(problem: Problem, answer: str) -> bool:
    """The verifier of the problem's family; it gives some wrong answers 0.01, hence `>= 1`."""
    dataset = reasoning_gym.create_dataset(problem.family, size=1, seed=0, **problem.level.options)
    return bool(dataset.score_answer(answer, problem.entry) >= 1.0)
