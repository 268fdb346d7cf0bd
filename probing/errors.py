"""Named exceptions, each a condition that a caller handles.

Every message says what is wrong, the rule, what was got, and the next command.
"""

from typing import Any


class ProbingError(Exception):
    """The run is at fault; the command line ends with exit code 1.

    Attributes:
        skipped: of a fault in reading or preparing carriers, what was left out until then, each a
            `carriers.record.Skipped`.
    """

    skipped: tuple[Any, ...] = ()


class UsageFault(ProbingError):
    """The settings or flags are at fault; exit code 2."""


class StoppedEarly(ProbingError):
    """Work was committed and stopped; the same command resumes. Exit code 3."""


class Interrupted(ProbingError):
    """Ctrl-C; the message says what there is of what was under way. Exit code 130."""


class MissingPackage(ProbingError):
    """An optional package is needed and is not installed."""


class GraderUnusable(ProbingError):
    """A grader of another package cannot be loaded in a process of its own."""


class UnreadableInput(ProbingError):
    """A file cannot be read as carriers: absent, empty, of no known format, or not decodable."""


class NoCarriersLeft(ProbingError):
    """Every record was skipped, or the filters keep none."""


class RecordFault(ProbingError):
    """Under `--strict`: a record was skipped, and the first such record is named."""


class ModelFault(ProbingError):
    """A model cannot be loaded or does not belong with the baseline (adapter of another base)."""


class VocabularyMismatch(ProbingError):
    """Two models' tokenizers differ in content; the first difference is named."""


class IdenticalModel(ProbingError):
    """An "other" model has the baseline's weights."""


class NonFiniteLogits(ProbingError):
    """A model gave NaN or +inf logits."""


class SelfCheckFailed(ProbingError):
    """The two-pass forward differs from the plain forward by more than the stated tolerance."""


class UnwritablePath(ProbingError):
    """The place a run should go to cannot be written."""


class NotARun(ProbingError):
    """A path or URL does not hold a probing run."""


class NewerSchema(ProbingError):
    """A run was written by a newer version of this package."""


class CorruptRun(ProbingError):
    """A committed object of a run is missing or differs from its digest."""


class RunDiffers(ProbingError):
    """A run cannot be resumed: its inputs, models or settings changed; it says which."""


class RunBusy(ProbingError):
    """Another process writes this run."""


class PortTaken(ProbingError):
    """The port that the dashboard should listen on cannot be had."""


class AccessNotSetUp(ProbingError):
    """A dashboard's secrets ask for signing in, and do not say readably who gets in."""


class OutsideContract(ProbingError):
    """A temperature or rank is asked for that the store cannot answer exactly."""
