"""Names used everywhere: kinds, assignments, selectors, phases, strata and shape aliases."""

from enum import StrEnum
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int

PerPosition: TypeAlias = Float[np.ndarray, " position"]
PositionMask: TypeAlias = Bool[np.ndarray, " position"]
PositionIds: TypeAlias = Int[np.ndarray, " position"]
TokenMask: TypeAlias = Bool[np.ndarray, " token"]
"""Whether each id of the vocabulary belongs to a group of tokens."""
CandidateLogits: TypeAlias = Float[np.ndarray, "position candidate"]
CandidateIds: TypeAlias = Int[np.ndarray, "position candidate"]
GridNodes: TypeAlias = Float[np.ndarray, " beta"]
TailNodes: TypeAlias = Float[np.ndarray, "position beta"]

DISTRIBUTION = "ssd-probing"
"""The name under which this package is installed."""

PADDING_ID = -1
"""The id that fills unused places on the candidate axis."""


class Kind(StrEnum):
    """What a distribution looks like; method.md section 5. Exactly one per distribution."""

    LOCK = "lock-like"
    FORK = "fork-like"
    DIFFUSE = "diffuse"
    MIXED = "mixed"


class Event(StrEnum):
    """What happened to a position; method.md section 6. Exactly one per position and pair."""

    SELF_CORRECTION = "self-correction"
    SWAP = "swap"
    UNLOCKED = "unlocked"
    SOFTENED = "softened"
    STRICT_LOCK = "strict lock"
    FAILURE_TO_COMMIT = "failure to commit"
    COLLAPSED = "collapsed"
    TRUE_FORK = "true fork"
    DISSOLVED = "dissolved"
    SHARPENED = "sharpened"
    OPENED = "opened"
    DRIFTED = "drifted"
    UNCHANGED = "unchanged"


class Assignment(StrEnum):
    """Whose distribution gives a position its kind."""

    MEAN = "mean"
    BASELINE = "baseline"
    OTHER = "other"


class Phase(StrEnum):
    """Where a position lies relative to the end of the thinking span."""

    BEFORE_THINK_CLOSE = "before think-close"
    AFTER_THINK_CLOSE = "after think-close"
    NO_THINK_CLOSE = "no think-close"


class TokenClass(StrEnum):
    """What the realised token is made of, spaces around it aside."""

    NUMBER = "number"
    WORD = "word"
    SIGNS = "signs"
    SPACE = "space"


class Template(StrEnum):
    """How the prompt of a carrier becomes text for the tokenizer."""

    CHAT = "chat"
    RAW = "raw"
    ALREADY_APPLIED = "already_applied"


class Selector(StrEnum):
    """Selectors that do not come from the lexicon; every lexicon group is one more selector."""

    INTERVAL = "interval"
    RANDOM = "random"
    ALL = "all"


CONTENT_FREE_SELECTORS = frozenset({Selector.INTERVAL, Selector.RANDOM, Selector.ALL})
"""Selectors that do not look at the text: only their positions carry headline figures."""


class Stratum(StrEnum):
    """Columns by which carriers and positions can be filtered and grouped."""

    KIND = "kind"
    EVENT = "event"
    LENGTH = "length_bin"
    CORRECT = "correct"
    GENERATOR = "generator"
    RIGHT = "right_model"
    SELECTOR = "selectors"
    PHASE = "phase"
    TOKEN_CLASS = "token_class"
    SUBJECT = "subject"
    DIFFICULTY = "difficulty"
    SOURCE = "source"
    SAMPLING_TEMPERATURE = "sampling_temperature"


UNKNOWN = "unknown"
"""Shown where a carrier does not say (an ungraded response, no difficulty)."""
