"""Logs of Inspect, `.eval` and `.json`, through its own library.

A sample and epoch is one response: what `output` holds, with its thinking where that stands in
parts of its own. The chat before it is the prompt. Strings that the log keeps apart (attachments)
are put back by the library.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from probing.carriers.fields import Unusable
from probing.carriers.readers.formats import Convert, Fields, Made, RecordFormat
from probing.carriers.readers.rows import BadRow, Row, Rows
from probing.carriers.readers.sources import Source
from probing.carriers.readers.turns import Turn, plain, turns
from probing.errors import MissingPackage, UnreadableInput
from probing.settings import Inputs
from probing.vocabulary import Template

GRADES = {"C": True, "I": False}
"""What Inspect writes for right and wrong; partial (P) and no answer (N) are no grade."""
OF_THE_LOG = "log"
"""Field under which each sample carries what its log says for all."""


LOG_START = re.compile(rb'\{\s*"version"\s*:')
EVAL_OBJECT = re.compile(rb'"eval"\s*:\s*\{')
LOG_PARTS = ("header.json", "_journal/start.json")
"""One of them is in every packed log: that of a run that ended, that of one that did not."""


def looks_like_inspect(head: bytes) -> bool:
    """Whether text that starts like this is a log of Inspect."""
    return LOG_START.match(head) is not None and EVAL_OBJECT.search(head) is not None


def holds_inspect(names: Sequence[str]) -> bool:
    """Whether a zip with these parts is a log of Inspect."""
    return any(part in names for part in LOG_PARTS)


def read_inspect(source: Source) -> Rows:
    """Yield every sample, in the order of the log; `line` is its 1-based number.

    Raises:
        MissingPackage: the package inspect_ai is not installed.
        UnreadableInput: it is no log of Inspect, or damaged.
    """
    try:
        from inspect_ai.log import read_eval_log, read_eval_log_samples
    except ImportError as error:
        raise MissingPackage(
            f"{source.place} is a log of Inspect, read by the package inspect_ai, which is not "
            "installed; run `pip install 'ssd-probing[inspect]'`"
        ) from error
    line = 0
    try:
        header = read_eval_log(source.place, header_only=True)
        shared = {"task": header.eval.task, "model": header.eval.model}
        samples = read_eval_log_samples(
            source.place, all_samples_required=False, resolve_attachments=True
        )
        for line, sample in enumerate(samples, start=1):
            yield Row(line, {**sample.model_dump(mode="json"), OF_THE_LOG: shared})
    except Exception as error:
        # What its reader raises of a file that is no log, or of a part of one, has no type in
        # common.
        if line:
            detail = f"nothing after sample {line} can be read: {error!s:.200}; write it again"
            yield BadRow(line + 1, "damaged file", detail)
            return
        raise UnreadableInput(
            f"{source.place} cannot be read as a log of Inspect: {error!s:.200}; write it again"
        ) from error


def _fits(fields: Fields) -> bool:
    return OF_THE_LOG in fields and "output" in fields


def _opened(source: Source, inputs: Inputs) -> Convert:
    def convert(row: Row) -> Iterator[Made]:
        yield Made(_fields(row.fields, inputs))

    return convert


INSPECT = RecordFormat(
    name="inspect", keys="a log of Inspect", fits=_fits, opened=_opened, answers=True
)


def _fields(sample: Fields, inputs: Inputs) -> dict[str, Any]:
    output: Mapping[str, Any] = sample.get("output") or {}
    choices = output.get("choices") or []
    if not choices:
        raise Unusable("no response", f"sample {sample.get('id')!r:.60} has no output")
    answered = turns("output", [choices[0]["message"]])[0]
    score = _score(sample.get("scores"))
    options = _options(sample)
    return {
        "messages": plain(_asked(sample), inputs.thinking_format),
        "response": answered.text(inputs.thinking_format),
        "generator": output.get("model") or sample[OF_THE_LOG]["model"],
        "problem_id": str(sample.get("id")),
        "gold": _gold(sample.get("target")),
        "correct": score.correct,
        "answer": score.answer,
        "finish_reason": choices[0].get("stop_reason"),
        "temperature": options.get("temperature"),
        "template": Template.CHAT.value,
        "source": sample[OF_THE_LOG]["task"],
        "epoch": sample.get("epoch"),
        "scores": sample.get("scores"),
    }


def _asked(sample: Fields) -> list[Turn]:
    """The chat before the last turn of the assistant; else what the sample was given."""
    chat = sample.get("messages") or []
    if chat and chat[-1].get("role") == "assistant":
        return turns("messages", chat[:-1])
    given = sample.get("input")
    return [Turn("user", given)] if isinstance(given, str) else turns("input", given)


class _Score:
    """Grade and answer of one scorer."""

    def __init__(self, correct: bool | None = None, answer: str | None = None) -> None:
        self.correct, self.answer = correct, answer


def _score(scores: Any) -> _Score:
    """Of the first scorer whose value is a grade: C, I, true, false, 1 or 0."""
    for each in (scores or {}).values():
        value, answer = each.get("value"), each.get("answer")
        said = answer if isinstance(answer, str) else None
        if isinstance(value, str) and value in GRADES:
            return _Score(GRADES[value], said)
        if isinstance(value, bool | int | float) and value in (0, 1):
            return _Score(bool(value), said)
    return _Score()


def _gold(target: Any) -> str | None:
    """One text; of several that would all do, none can be told."""
    if isinstance(target, list):
        target = target[0] if len(target) == 1 else None
    return target if isinstance(target, str) and target else None


def _options(sample: Fields) -> Mapping[str, Any]:
    """How the response was sampled: the settings of the last call of the model, if logged."""
    for event in reversed(sample.get("events") or []):
        if event.get("event") == "model" and isinstance(event.get("config"), Mapping):
            return dict(event["config"])
    return {}
