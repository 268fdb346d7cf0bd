"""Events: what happened to a position, relative to the kind assigned to it.

Source: docs/method.md, Events.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from probing.analysis.decoding import close_edge, own_ranks
from probing.analysis.distributions import Distributions
from probing.analysis.kinds import CODES as KIND_CODES
from probing.analysis.moments import settle
from probing.settings import KindRule
from probing.vocabulary import (
    Event,
    Kind,
    PerPosition,
    PositionIds,
    PositionMask,
    TokenMask,
)

CODES: dict[Event, int] = {event: code for code, event in enumerate(Event)}
"""An event as a number: its place in `list(Event)`."""

SYMMETRIC = frozenset(
    {
        Event.SELF_CORRECTION,
        Event.SWAP,
        Event.STRICT_LOCK,
        Event.FAILURE_TO_COMMIT,
        Event.TRUE_FORK,
        Event.DRIFTED,
        Event.UNCHANGED,
    }
)
"""Events that stay what they are when the two models change places, if the assigned kind does too.

Under the mean it does. Then the null of such an event's share is the share itself, and that of its
deltas is zero, whatever happened: neither says anything about selection.
"""

_LOCK, _FORK = KIND_CODES[Kind.LOCK], KIND_CODES[Kind.FORK]


@dataclass(frozen=True)
class LexiconTokens:
    """Which ids stand for a one-word entry of the lexicon (method.md section 4).

    Attributes:
        self_correction: the token's text, one leading space aside, equals an entry.
        think_close: the token closes the thought, or is the first of the tokens that do.
    """

    self_correction: TokenMask
    think_close: TokenMask


@dataclass(frozen=True)
class LeadingWords:
    """What one model's leading tokens are, at every position.

    Attributes:
        top1: candidates with the largest logit; several where they tie.
        top1_corrects: one of them is a self-correction.
        close_corrects: a self-correction is among the close tokens.
        close_ends: the end of thinking is among the close tokens.
    """

    top1: Bool[np.ndarray, "position candidate"]
    top1_corrects: PositionMask
    close_corrects: PositionMask
    close_ends: PositionMask


def leading_words(
    rows: Distributions, *, tokens: LexiconTokens, temperature: float, rule: KindRule
) -> LeadingWords:
    """Leading tokens of one model's distributions, as events need them.

    Args:
        rows: of a model, not of a mean: its own top tokens are all among the candidates.
        tokens: which ids mean something.
        temperature: at which tokens are close: that of the kinds.
        rule: says which tokens count as close.
    """
    logits = rows.logits
    top1 = (logits == logits.max(axis=1, keepdims=True)) & np.isfinite(logits)
    close = close_places(rows, temperature=temperature, rule=rule)
    return LeadingWords(
        top1=top1,
        top1_corrects=_any_marked(top1, rows.ids, tokens.self_correction),
        close_corrects=_any_marked(close, rows.ids, tokens.self_correction),
        close_ends=_any_marked(close, rows.ids, tokens.think_close),
    )


def close_places(
    rows: Distributions, *, temperature: float, rule: KindRule
) -> Bool[np.ndarray, "position candidate"]:
    """Candidates that are close tokens: what `Statistics.close_tokens` counts.

    Tokens that tie for the last counted rank are all close.
    """
    settled, at = settle(rows, temperature=temperature)
    logits = settled.logits
    top = logits.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        near = (logits - top) / at >= close_edge(rule)
    near &= (logits >= settled.tail.reference[:, None]) & np.isfinite(logits)
    # What is near comes before what is not, so ranks count only where more than enough is near.
    many = np.flatnonzero(near.sum(axis=1) > rule.close_among)
    near[many] &= own_ranks(settled.part(many)) <= rule.close_among
    return np.asarray(near)


def _any_marked(
    places: Bool[np.ndarray, "position candidate"],
    ids: Int[np.ndarray, "position candidate"],
    mask: TokenMask,
) -> PositionMask:
    """Whether an id at one of the places is in the mask; the places are few and hold no padding."""
    flat = np.flatnonzero(places)
    found = np.zeros(len(places), dtype=bool)
    found[flat[mask[ids.ravel()[flat]]] // places.shape[1]] = True
    return found


def same_top1(baseline: LeadingWords, other: LeadingWords) -> PositionMask:
    """Whether a token is largest under both models; of tied tokens one in common is enough."""
    return np.asarray((baseline.top1 & other.top1).any(axis=1))


@dataclass(frozen=True)
class Signs:
    """What the two models' leading words say together; the same when they change places.

    Attributes:
        same: one token is largest under both.
        corrects: a self-correction begins here, by the response, by either model's largest token,
            or by being close in one model beside the end of thinking.
        hesitant: a self-correction or the end of thinking is close in either.
    """

    same: PositionMask
    corrects: PositionMask
    hesitant: PositionMask


def signs(
    baseline: LeadingWords, other: LeadingWords, *, realised_correction: PositionMask
) -> Signs:
    """What events need of the leading words of a pair.

    Args:
        baseline: leading tokens of the baseline.
        other: of the other model.
        realised_correction: a self-correction phrase of the response begins in the token.
    """
    torn = (baseline.close_ends & baseline.close_corrects) | (
        other.close_ends & other.close_corrects
    )
    return Signs(
        same=same_top1(baseline, other),
        corrects=realised_correction | baseline.top1_corrects | other.top1_corrects | torn,
        hesitant=(
            baseline.close_ends | baseline.close_corrects | other.close_ends | other.close_corrects
        ),
    )


@dataclass(frozen=True)
class PairKinds:
    """Kind codes of every position: by the assignment, of the baseline, of the other model."""

    assigned: PositionIds
    baseline: PositionIds
    other: PositionIds


def events(
    kinds: PairKinds, seen: Signs, *, entropy_change: PerPosition
) -> Int[np.ndarray, " position"]:
    """The event of every position, as int8 codes (method.md section 6).

    Two cases that its lists leave open, since an assignment other than the baseline's can name a
    kind that the baseline does not have: an assigned lock that is lock-like only under the other
    model is *sharpened*; an assigned fork that is fork-like only under the other is *opened*. An
    assigned mixed or diffuse position that was lock- or fork-like under the baseline alone is
    *sharpened* or *opened* by the sign of its entropy change.

    Args:
        kinds: by the assignment and of both models.
        seen: what the leading words of the two say.
        entropy_change: other - baseline, at the decoding of the kinds.
    """
    codes = (kinds.assigned, kinds.baseline, kinds.other)
    facts = (seen.same, seen.corrects, seen.hesitant, entropy_change < 0)
    place = np.zeros(len(entropy_change), dtype=np.int16)
    for each, size in zip((*codes, *facts), _SIZES, strict=True):
        place *= size
        place += each
    return _EVENT_OF[place]


def _decided(facts: Int[np.ndarray, "fact combination"]) -> Int[np.ndarray, " combination"]:
    """The event of each combination of what `events` looks at, one column each."""
    assigned, before, after, same, corrects, hesitant, falls = facts
    lock, fork = assigned == _LOCK, assigned == _FORK
    lock_before, lock_after = before == _LOCK, after == _LOCK
    fork_before, fork_after = before == _FORK, after == _FORK
    settled_before = lock_before | fork_before
    cases: list[tuple[PositionMask, Event]] = [
        (lock & (corrects == 1), Event.SELF_CORRECTION),
        (lock & (same == 0) & lock_before & lock_after, Event.SWAP),
        (lock & (same == 0) & ~lock_after, Event.UNLOCKED),
        (lock & (same == 1) & ~lock_after, Event.SOFTENED),
        (lock & (same == 1) & lock_before & lock_after, Event.STRICT_LOCK),
        (lock, Event.SHARPENED),
        (fork & (hesitant == 1), Event.FAILURE_TO_COMMIT),
        (fork & lock_after, Event.COLLAPSED),
        (fork & fork_before & fork_after, Event.TRUE_FORK),
        (fork & ~fork_after, Event.DISSOLVED),
        (fork, Event.OPENED),
        (lock_after, Event.SHARPENED),
        (fork_after, Event.OPENED),
        (before == after, Event.UNCHANGED),
        (settled_before & (falls == 1), Event.SHARPENED),
        (settled_before, Event.OPENED),
    ]
    codes = np.select(
        [where for where, _ in cases],
        [CODES[event] for _, event in cases],
        default=CODES[Event.DRIFTED],
    )
    return codes.astype(np.int8)


_SIZES = (len(Kind), len(Kind), len(Kind), 2, 2, 2, 2)
"""How many values each of the facts of `_decided` has."""

_EVENT_OF = _decided(np.indices(_SIZES).reshape(len(_SIZES), -1))
"""The event of every combination of facts, which are few: a million positions look theirs up."""
