"""Graders: whether an answer is the gold one. Two are built in, packages add others."""

import importlib.util
import itertools
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import TypeAlias

from probing.errors import MissingPackage, UsageFault

Grader: TypeAlias = Callable[[str, str], bool | None]
"""From an answer and the gold one: whether they are the same; None where that cannot be told."""

GROUP = "probing.graders"
"""Entry points under which packages offer graders."""


def grader(name: str) -> Grader:
    """The grader of that name, loaded.

    A package adds one by an entry point in its `pyproject.toml`; the entry point's name is what
    settings and `--grader` then know it by:

        [project.entry-points."probing.graders"]
        units = "my_package.grading:same_units"

    with `same_units(answer: str, gold: str) -> bool | None`. It runs in processes of its own,
    which import nothing else of the caller's program; it may hang, raise or end its process:
    such an answer stays ungraded and is counted. What it prints goes to the standard error.

    Raises:
        UsageFault: no grader has that name, or several packages offer one.
        MissingPackage: the package that it needs is not installed.
    """
    check_name(name)
    check_package(name)
    if name in BUILT_IN:
        return BUILT_IN[name]
    (offer,) = _offers(name)
    loaded: Grader = offer.load()
    return loaded


def check_name(name: str) -> None:
    """Whether there is exactly one grader of that name, without loading it.

    Raises:
        UsageFault: there is none, or there are several.
    """
    offers = _offers(name)
    if name not in BUILT_IN and not offers:
        offered = sorted({offer.name for offer in entry_points(group=GROUP)} - set(BUILT_IN))
        raise UsageFault(
            f"a grader must be one of {', '.join([*BUILT_IN, *offered])}, got {name!r}; "
            f"packages add graders by entry points of the group {GROUP}"
        )
    if len(offers) + (name in BUILT_IN) > 1:
        owners = ["probing"] * (name in BUILT_IN) + [offer.value for offer in offers]
        raise UsageFault(
            f"a grader's name must be offered once, got {name!r} from {' and '.join(owners)}; "
            "uninstall one of them, or rename its entry point"
        )


def check_package(name: str) -> None:
    """Whether the package that a built-in grader needs is there, without importing it.

    Raises:
        MissingPackage: it is not installed.
    """
    if name == MATH_VERIFY and importlib.util.find_spec("math_verify") is None:
        raise MissingPackage(NO_MATH_VERIFY)


def _offers(name: str) -> list[EntryPoint]:
    """Entry points of that name; one that two records of one package repeat counts once."""
    return list({each.value: each for each in entry_points(group=GROUP, name=name)}.values())


def same_text(answer: str, gold: str) -> bool:
    """Whether the two texts are equal, space around them aside."""
    return answer.strip() == gold.strip()


def same_mathematics(answer: str, gold: str) -> bool | None:
    """Whether math-verify takes the two for equal; None where that cannot be told.

    That is: one of them is no mathematics and the texts differ, or a comparison failed. There is
    no time limit in here: those of math-verify are signals, which reach neither another thread
    nor a large power that is being computed. Processes that can be killed hold the limit.

    Raises:
        MissingPackage: math-verify is not installed.
    """
    try:
        from math_verify import parse, verify
    except ImportError as error:
        raise MissingPackage(NO_MATH_VERIFY) from error
    try:
        wanted, given = (
            parse(rf"\boxed{{{text}}}", raise_on_error=True, parsing_timeout=None)
            for text in (gold, answer)
        )
    except Exception:
        return None
    known = bool(wanted and given) and all(
        any(not isinstance(item, str) for item in found) for found in (wanted, given)
    )
    for pair in itertools.product(wanted, given):
        try:
            if verify(*pair, raise_on_error=True, timeout_seconds=None):
                return True
        except Exception:
            known = False
    return False if known else None


MATH_VERIFY = "math-verify"
NO_MATH_VERIFY = (
    "grading needs the package math-verify, which is not installed; "
    "run `pip install 'ssd-probing[grade]'`"
)
BUILT_IN: dict[str, Grader] = {MATH_VERIFY: same_mathematics, "exact": same_text}
