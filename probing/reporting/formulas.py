r"""Formulas that a model wrote: found in its text, and rendered only if they set mathematics alone.

A formula is foreign text that a page's renderer would act on: it can define macros, ask for links
and images, or for sizes without end. Whatever is not known to be harmless stays source.
"""

import re
from dataclasses import dataclass

from probing.reporting.text import plain

MOST = 12
"""Formulas of one context that are shown."""

SEARCHED = 4000
"""Characters of a context in which formulas are looked for."""

LONGEST, DEEPEST = 400, 12
"""Characters, and braces within braces, of a formula that is rendered."""

DELIMITED = re.compile(
    r"\$\$(?P<display>[^$]+)\$\$"
    r"|\$(?P<inline>[^$\n]+)\$"
    r"|\\\[(?P<square>.+?)\\\]"
    r"|\\\((?P<round>.+?)\\\)"
    r"|(?P<boxed>\\boxed\s*\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})",
    re.DOTALL,
)

_COMMANDS = """
    frac dfrac tfrac cfrac binom sqrt boxed text textbf textit mathrm mathbf mathit mathbb
    mathcal operatorname overline underline hat bar vec dot tilde widehat overbrace underbrace
    left right big Big bigl bigr begin end cdot times div pm mp ast star circ bullet oplus
    otimes le leq ge geq ne neq lt gt approx equiv sim simeq cong propto ll gg to gets mapsto
    rightarrow leftarrow Rightarrow Leftarrow implies iff leftrightarrow Leftrightarrow
    longrightarrow in notin ni subset subseteq supset supseteq cup cap setminus emptyset
    varnothing forall exists neg land lor wedge vee sum prod int iint oint lim limsup liminf sup
    inf max min log ln exp sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh gcd lcm
    det dim ker deg mod bmod pmod mid nmid parallel perp angle triangle degree prime infty
    partial nabla ldots cdots vdots ddots dots quad qquad lfloor rfloor lceil rceil langle
    rangle lvert rvert lVert rVert alpha beta gamma delta epsilon varepsilon zeta eta theta
    vartheta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi varphi chi psi omega Gamma
    Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega therefore because square limits
    nolimits displaystyle textstyle hline
"""
COMMANDS = frozenset(_COMMANDS.split())
"""Without definitions, links, images, HTML, colours, rules, free spaces and sizes."""

SIGNS = frozenset("\\{}|,;:! %$#&_")
"""What may follow a backslash alone; `\\$` and `\\#` are refused as characters all the same."""

ENVIRONMENTS = frozenset(
    ("aligned", "cases", "matrix", "pmatrix", "bmatrix", "vmatrix", "Vmatrix", "gathered")
)

CHARACTERS = frozenset("+-*/=<>()[]{}.,;:!?'|^_&~\\ ")
"""Beside letters and digits. No dollar: it would end the formula and begin a page's own text."""

_COMMAND = re.compile(r"\\([A-Za-z]+|.)", re.DOTALL)
_ENVIRONMENT = re.compile(r"\\(?:begin|end)(?:\{([^{}]*)\})?")


@dataclass(frozen=True)
class Formula:
    """One formula of a text.

    Attributes:
        source: as it was written, with its delimiters; controls escaped.
        body: what is rendered, on one line, without delimiters.
        refused: why it is not rendered; empty if it can be.
    """

    source: str
    body: str
    refused: str


def formulas(text: str) -> tuple[Formula, ...]:
    """The first `MOST` formulas of a text."""
    found: list[Formula] = []
    for match in DELIMITED.finditer(text[:SEARCHED]):
        body = " ".join(next(part for part in match.groups() if part is not None).split())
        if body:
            found.append(Formula(plain(match.group()), body, refusal(body)))
        if len(found) == MOST:
            break
    return tuple(found)


def refusal(body: str) -> str:
    r"""Why this formula is not rendered; empty if it can be.

    Examples:
        >>> refusal(r"\frac{1}{2}"), refusal(r"\href{x}{y}")
        ('', '\\href is not among the commands that are')
    """
    if len(body) > LONGEST:
        return f"it is longer than {LONGEST} characters"
    for char in body:
        if not (char.isascii() and char.isalnum()) and char not in CHARACTERS:
            return f"{plain(char)!r} is not among the characters that are"
    for name in _COMMAND.findall(body):
        if name not in COMMANDS and name not in SIGNS:
            return f"\\{name} is not among the commands that are"
    for name in _ENVIRONMENT.findall(body):
        if name not in ENVIRONMENTS:
            return f"the environment {name!r} is not among those that are"
    return _depth_refusal(body)


def _depth_refusal(body: str) -> str:
    depth = 0
    for sign in re.findall(r"(?<!\\)[{}]", body):
        depth += 1 if sign == "{" else -1
        if depth < 0:
            return "its braces do not match"
        if depth > DEEPEST:
            return f"it has more than {DEEPEST} braces within braces"
    return "its braces do not match" if depth else ""
