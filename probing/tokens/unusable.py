"""The fault of one carrier that cannot be scored."""

from probing.errors import ProbingError


class UnusableCarrier(ProbingError):
    """One carrier cannot become token ids: a record fault, to be skipped and listed.

    Attributes:
        reason: a few words, the same for every carrier with this fault, to be counted by.
        detail: the rule and what was got in this carrier.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
