"""Logs of Inspect: what a sample gives.

A sample, epoch and choice is one response: what `output` holds, with its thinking where that stands
in parts of its own. The chat before it is the prompt.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from probing.carriers.fields import Unusable
from probing.carriers.readers.formats import Convert, Fields, Made, RecordFormat
from probing.carriers.readers.inspect_samples import OF_THE_LOG
from probing.carriers.readers.rows import Row
from probing.carriers.readers.sources import Source
from probing.carriers.readers.turns import Turn, plain, turns
from probing.settings import Inputs
from probing.vocabulary import Template

GRADES = {"C": True, "I": False}
"""What Inspect writes for right and wrong; partial (P) and no answer (N) are no grade."""


def _fits(fields: Fields) -> bool:
    return OF_THE_LOG in fields and "output" in fields


def _opened(source: Source, inputs: Inputs) -> Convert:
    def convert(row: Row) -> Iterator[Made]:
        yield from _responses(row.fields, inputs)

    return convert


INSPECT = RecordFormat(
    name="inspect", keys="a log of Inspect", fits=_fits, opened=_opened, answers=True
)


def _responses(sample: Fields, inputs: Inputs) -> Iterator[Made]:
    output: Mapping[str, Any] = sample.get("output") or {}
    choices = output.get("choices") or []
    if not choices:
        raise Unusable("no response", f"sample {sample.get('id')!r:.60} has no output")
    answer = choices[0]["message"].get("id")
    metadata: Mapping[str, Any] = sample.get("metadata") or {}
    shared = {
        "messages": plain(_asked(sample, answer), inputs.thinking_format),
        "generator": output.get("model") or sample[OF_THE_LOG]["model"],
        "problem_id": str(sample.get("id")),
        "gold": _gold(sample.get("target")),
        "temperature": _options(sample, answer).get("temperature"),
        "template": Template.CHAT.value,
        "difficulty": metadata.get("difficulty"),
        "subject": metadata.get("subject"),
        "source": sample[OF_THE_LOG]["task"],
        "epoch": sample.get("epoch"),
        "metadata": metadata,
    }
    for number, choice in enumerate(choices):
        said = turns("output", [choice["message"]])[0].text(inputs.thinking_format)
        fields = {**shared, "response": said, "finish_reason": _finish(choice)}
        if not number:
            # Scorers see the first choice alone.
            score = _score(sample.get("scores"))
            fields |= {"correct": score.correct, "answer": score.answer}
            fields["scores"] = sample.get("scores")
        yield Made(fields, str(number) if len(choices) > 1 else "")


def _asked(sample: Fields, answer: str | None) -> list[Turn]:
    """The chat before the answer: its own turn, else a last turn of the assistant.

    A chat that has neither was left before it was answered: then what the sample was given.
    """
    chat = sample.get("messages") or []
    own = [place for place, each in enumerate(chat) if answer and each.get("id") == answer]
    if own:
        return turns("messages", chat[: own[-1]])
    if chat and chat[-1].get("role") == "assistant":
        return turns("messages", chat[:-1])
    given = sample.get("input")
    return [Turn("user", given)] if isinstance(given, str) else turns("input", given)


def _finish(choice: Fields) -> str | None:
    reason = choice.get("stop_reason")
    return None if reason == "unknown" else reason


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


def _options(sample: Fields, answer: str | None) -> Mapping[str, Any]:
    """How the response was sampled: the settings of the call that gave it, if logged.

    Scorers call models too, later; logs that give turns no id only say in which role.
    """
    calls = [each for each in sample["calls"] if isinstance(each.get("config"), Mapping)]
    own = [each for each in calls if answer and _first_id(each.get("output")) == answer]
    solving = [each for each in calls if each.get("role") is None]
    return dict((own or solving)[-1]["config"]) if own or solving else {}


def _first_id(output: Any) -> str | None:
    choices = (output or {}).get("choices") or [{}]
    return (choices[0].get("message") or {}).get("id")
