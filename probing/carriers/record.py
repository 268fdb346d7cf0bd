"""The carrier record: one prompt + response, with what is known of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from probing.vocabulary import Template


@dataclass(frozen=True, kw_only=True)
class Carrier:
    """One prompt + response. `correct` is None when nobody graded it or it cannot be graded.

    Exactly one of `prompt` and `messages` may be missing when token ids are given; token ids,
    where present, are used as they are. `prompt_token_ids` and `response_token_ids` come together.
    `sampling_probability` is the probability that the seeded sample kept this carrier.
    """

    carrier_id: str
    problem_id: str
    response: str
    generator: str
    prompt: str | None = None
    messages: tuple[dict[str, Any], ...] | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    response_token_ids: tuple[int, ...] | None = None
    template: Template = Template.CHAT
    gold: str | None = None
    answer: str | None = None
    correct: bool | None = None
    finish_reason: str | None = None
    temperature: float | None = None
    difficulty: str | None = None
    subject: str | None = None
    source: str | None = None
    sampling_probability: float = 1.0
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Skipped:
    """A record that was left out: where it stood and why."""

    file: str
    line: int
    reason: str
    detail: str

    @property
    def place(self) -> str:
        """File and line; of a file that was left out whole, the file alone."""
        return f"{self.file}:{self.line}" if self.line else self.file

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}: {self.detail}"


@dataclass(frozen=True)
class FileCounts:
    """What a file gave.

    Attributes:
        file: path or URL.
        format: of its records; "" where none could be told.
        records: every one, kept or skipped; prompts of a batch input among them.
        responses: what was kept or skipped: `kept + skipped`, but for a skipped file. A record that
            could not be read counts as one; others hold one or several, a prompt holds none.
        kept: carriers.
        skipped: responses that were left out.
        prompts: records that ask and do not answer.
        left_out: files that were left out whole; of such files the rest is 0, but for `skipped`,
            which is 1: they stand in the list of what was skipped once.
    """

    file: str
    format: str
    records: int
    responses: int
    kept: int
    skipped: int
    prompts: int = 0
    left_out: int = 0


@dataclass(frozen=True)
class ReadResult:
    """What readers found.

    Attributes:
        carriers: kept, in their order.
        skipped: what was left out.
        rows_read: every record, kept or skipped.
        files: what each file gave.
        notes: what a reader must know of those that were kept, a sentence each.
        places: file and line of every carrier, by its id.
    """

    carriers: tuple[Carrier, ...]
    skipped: tuple[Skipped, ...]
    rows_read: int
    files: tuple[FileCounts, ...] = ()
    notes: tuple[str, ...] = ()
    places: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    def skip(self, carrier_id: str, reason: str, detail: str) -> Skipped:
        """A carrier that was read and is left out after all, named by its place where known."""
        if carrier_id in self.places:
            return Skipped(*self.places[carrier_id], reason, f"carrier {carrier_id}: {detail}")
        return Skipped(carrier_id, 0, reason, detail)

    @property
    def files_left_out(self) -> int:
        """Files that were found and are no logs, or cannot be read."""
        return sum(each.left_out for each in self.files)
