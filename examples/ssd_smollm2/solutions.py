"""Worked solutions that teach the baseline: right ones, in many wordings and orders."""

import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from problems import Problem

SLIP_RATE = 0.3
"""Share of solutions that write a wrong intermediate result and correct it."""

CHECK_RATE = 0.25
"""Share of solutions that check the answer before they close the thought."""

Weighted = Sequence[tuple[str, float]]

OPENINGS: Weighted = (
    ("Let us go step by step.", 0.3),
    ("We need {goal}.", 0.25),
    ("First, look at the numbers.", 0.15),
    ("Let me find {goal}.", 0.15),
    ("Suppose we do this in parts.", 0.1),
    ("Consider {goal}.", 0.05),
)
LINKS: Weighted = ((" ", 0.4), (" Then ", 0.3), (" Next, ", 0.15), (" So ", 0.15))
SLIPS: Weighted = (
    ("Wait, that is not right.", 0.4),
    ("Wait, let me redo that.", 0.25),
    ("Hmm, that is wrong.", 0.2),
    ("Actually, no.", 0.15),
)
CHECKS: Weighted = (("Let me check:", 0.6), ("Check:", 0.2), ("Perhaps check it:", 0.2))
ENDINGS: Weighted = (
    ("So the answer is {gold}.", 0.4),
    ("Therefore we get {gold}.", 0.3),
    ("That gives {gold}.", 0.2),
    ("The result is {gold}.", 0.1),
)
ANSWERS: Weighted = (
    ("\\boxed{{{gold}}}", 0.5),
    ("The answer is \\boxed{{{gold}}}.", 0.35),
    ("So the answer is \\boxed{{{gold}}}.", 0.15),
)


@dataclass(frozen=True)
class Step:
    """One computation: `left` = `right`."""

    left: str
    right: int


@dataclass(frozen=True)
class Plan:
    """How one problem is solved: what is sought, the steps, and how the answer is checked."""

    goal: str
    steps: tuple[Step, ...]
    check: str


def worked_solution(problem: Problem, *, rng: random.Random) -> str:
    """The text after `<think>` of the prompt, to the boxed answer; its last number is the gold."""
    plan = PLANNERS[problem.family](problem.question, int(problem.gold), rng)
    slip = rng.randrange(len(plan.steps)) if rng.random() < SLIP_RATE else None
    sentences = [_drawn(OPENINGS, rng).format(goal=plan.goal)]
    for place, step in enumerate(plan.steps):
        link = " " if place == 0 else _drawn(LINKS, rng)
        text = f"{step.left} = {step.right}."
        if place == slip:
            wrong = step.right + rng.choice((-2, -1, 1, 2, 10))
            text = f"{step.left} = {wrong}. {_drawn(SLIPS, rng)} {text}"
        sentences.append(f"{link}{text}")
    if rng.random() < CHECK_RATE:
        sentences.append(f" {_drawn(CHECKS, rng)} {plan.check}.")
    sentences.append(" " + _drawn(ENDINGS, rng).format(gold=problem.gold))
    answer = _drawn(ANSWERS, rng).format(gold=problem.gold)
    return f"{''.join(sentences)}\n</think>\n{answer}"


def _drawn(choices: Weighted, rng: random.Random) -> str:
    return rng.choices([text for text, _ in choices], [weight for _, weight in choices])[0]


def _numbers(question: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", question)]


def _sum(question: str, gold: int, rng: random.Random) -> Plan:
    expression = question.split(":")[-1].removesuffix("=").strip()
    total, *sizes = _numbers(expression)
    steps: list[Step] = []
    for sign, size in zip(re.findall(r" ([+-]) ", expression), sizes, strict=True):
        tens = size - size % 10
        if 0 < tens < size:
            parts = [tens, size - tens]
            if rng.random() < 0.35:
                parts.reverse()
        else:
            parts = [size]
        for part in parts:
            after = total + part if sign == "+" else total - part
            steps.append(Step(f"{total} {sign} {part}", after))
            total = after
    back = f"{gold} - {size} = {gold - size}" if sign == "+" else f"{gold} + {size} = {gold + size}"
    return Plan(f"the value of {expression}", tuple(steps), back)


def _product(question: str, gold: int, rng: random.Random) -> Plan:
    factors = _numbers(question)
    shown = " * ".join(map(str, factors))
    steps: list[Step] = []
    total = factors[0]
    for factor in factors[1:]:
        steps += _one_product(total, factor, rng)
        total *= factor
    back = " * ".join(map(str, factors[::-1]))
    return Plan(f"the value of {shown}", tuple(steps), f"{back} = {gold}")


def _one_product(first: int, second: int, rng: random.Random) -> list[Step]:
    """Of a number and a digit: at once, by tens and ones, or by five and the rest."""
    tens, ones = first - first % 10, first % 10
    if tens and ones:
        parts = [(tens, second), (ones, second)]
        if rng.random() < 0.35:
            parts.reverse()
    elif 5 < first < 10 and second > 1 and rng.random() < 0.5:
        parts = [(5, second), (first - 5, second)]
    else:
        return [Step(f"{first} * {second}", first * second)]
    steps = [Step(f"{one} * {other}", one * other) for one, other in parts]
    steps.append(Step(f"{steps[0].right} + {steps[1].right}", first * second))
    return steps


def _gcd(question: str, gold: int, rng: random.Random) -> Plan:
    first, second = _numbers(question)
    big, small = max(first, second), min(first, second)
    goal = f"the largest number that divides {first} and {second}"
    check = f"{first} / {gold} = {first // gold} and {second} / {gold} = {second // gold}"
    steps: list[Step] = []
    while small:
        steps.append(Step(f"{big} mod {small}", big % small))
        big, small = small, big % small
    return Plan(goal, tuple(steps), check)


def _lcm(question: str, gold: int, rng: random.Random) -> Plan:
    first, second = _numbers(question)
    common = math.gcd(first, second)
    goal = f"the smallest multiple of {first} and {second}"
    check = f"{gold} / {first} = {gold // first} and {gold} / {second} = {gold // second}"
    if rng.random() < 0.5:
        big = max(first, second)
        steps = [Step(f"{big} * {factor}", big * factor) for factor in range(1, gold // big + 1)]
        steps = steps[-4:]
    else:
        steps = [Step(f"{first} * {second}", first * second)]
        if common > 1:
            steps.append(Step(f"{first * second} / {common}", gold))
    return Plan(goal, tuple(steps), check)


def _equation(question: str, gold: int, rng: random.Random) -> Plan:
    equation = question.split(":")[-1].strip()
    if ":" not in question:
        equation = equation.split(" in the equation ")[-1]
    left, right = (side.strip() for side in equation.split("="))
    unknown = re.findall(r"[a-z]", left)[0]
    factor, constant = _linear(left, unknown)
    total = int(right)
    steps: list[Step] = []
    if constant:
        sign = "-" if constant > 0 else "+"
        steps.append(Step(f"{total} {sign} {abs(constant)}", total - constant))
    if factor == -1:
        steps.append(Step(f"0 - {total - constant}", gold))
    elif factor != 1:
        steps.append(Step(f"{total - constant} / {factor}", gold))
    if not steps:
        steps.append(Step(unknown, gold))
    check = f"{left.replace(unknown, str(gold))} = {total}"
    return Plan(f"the value of {unknown}", tuple(steps), check)


def _linear(expression: str, unknown: str) -> tuple[int, int]:
    """Factor of the unknown and constant, of sums of terms like `3*x`, `x` and `5`."""
    factor = constant = 0
    for sign, term in re.findall(r"([+-]?) ?([\w*]+)", expression):
        one = -1 if sign == "-" else 1
        if unknown in term:
            numbers = _numbers(term)
            factor += one * (math.prod(numbers) if numbers else 1)
        else:
            constant += one * math.prod(_numbers(term))
    return factor, constant


PLANNERS: dict[str, Callable[[str, int, random.Random], Plan]] = {
    "chain_sum": _sum,
    "products": _product,
    "gcd": _gcd,
    "lcm": _lcm,
    "simple_equations": _equation,
}
