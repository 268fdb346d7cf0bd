"""What a sample of Inspect may say: its own turn, its own call, its grade; and what is no text."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inspect_plain import Fields, altered
from logs import read

from probing.carriers.record import Carrier

pytestmark = pytest.mark.usefixtures("offline")


def first(path: Path) -> Carrier:
    result = read(path)
    assert result.skipped == ()
    assert len(result.carriers) == 8
    return result.carriers[0]


def answer(sample: Fields) -> Fields:
    """The turn that answers; what a log has twice is changed in both places."""
    message: Fields = sample["output"]["choices"][0]["message"]
    sample["messages"][-1] = message
    return message


FAULTS: dict[str, tuple[str, Callable[[Fields], Any]]] = {
    "no output of any form": ("damaged sample", lambda each: each.update(output=7)),
    "no Unicode": ("damaged sample", lambda each: each.update(input="\ud800")),
    "nothing": ("damaged sample", lambda each: each.clear()),
    "NUL": ("invalid text", lambda each: each.update(metadata={"a": "\0"})),
    "no choice": ("no response", lambda each: each["output"].update(choices=[])),
    "no text": ("empty response", lambda each: answer(each).update(content="")),
    "a call of a tool": (
        "not only text",
        lambda each: answer(each).update(
            tool_calls=[{"id": "t", "function": "submit", "arguments": {"answer": "7"}}]
        ),
    ),
    "a tool's turn before": (
        "not only text",
        lambda each: each["messages"].insert(
            -1,
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "t", "function": "add", "arguments": {}}],
            },
        ),
    ),
    "sealed thinking": (
        "not only text",
        lambda each: answer(each).update(
            content=[
                {"type": "reasoning", "reasoning": "gAAAA", "redacted": True, "summary": "Sums."},
                {"type": "text", "text": "7"},
            ]
        ),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_sample_at_fault_is_skipped_and_named(tmp_path: Path, fault: str) -> None:
    reason, change = FAULTS[fault]
    result = read(altered(tmp_path, change))
    assert len(result.carriers) == 7
    (skipped, *missing) = result.skipped
    if fault == "nothing":
        # Nobody knows which it was: it comes after those of the data set.
        assert (skipped.line, skipped.reason) == (8, reason)
        assert [each.reason for each in missing] == ["missing samples"]
    else:
        assert (skipped.line, skipped.reason) == (1, reason)
        assert missing == []


def test_each_choice_is_a_response_and_the_first_has_the_grade(tmp_path: Path) -> None:
    def add(sample: Fields) -> None:
        other = copy.deepcopy(sample["output"]["choices"][0])
        other["message"].update(id="other", content="\\boxed{8}")
        sample["output"]["choices"].append({**other, "stop_reason": "max_tokens"})

    path = altered(tmp_path, add)
    result = read(path)
    assert len(result.carriers) == 9
    assert result.rows_read == 8
    one, other = result.carriers[:2]
    assert (one.carrier_id, other.carrier_id) == (f"{path}:1.0", f"{path}:1.1")
    assert (one.correct, one.answer, one.finish_reason) == (True, "7", "stop")
    assert (other.correct, other.answer, other.finish_reason) == (None, None, "max_tokens")
    assert other.response == "\\boxed{8}"
    assert "scores" not in other.extra
    for name in ("messages", "problem_id", "generator", "gold", "temperature", "source"):
        assert getattr(one, name) == getattr(other, name)


LATER = {"role": "user", "content": "Are you sure?", "id": "later"}
AFTER: dict[str, Callable[[list[Fields]], Any]] = {
    "a turn of the user": lambda chat: chat.append(LATER),
    "another answer": lambda chat: chat.extend(
        [LATER, {"role": "assistant", "content": "No.", "id": "another"}]
    ),
    "nothing, and no id": lambda chat: [each.pop("id") for each in chat],
}


@pytest.mark.parametrize("after", AFTER)
def test_the_prompt_is_what_stood_before_the_answer(tmp_path: Path, after: str) -> None:
    before = first(altered(tmp_path, lambda sample: None)).messages
    kept = first(altered(tmp_path, lambda sample: AFTER[after](sample["messages"])))
    assert kept.messages == before
    assert [each["role"] for each in kept.messages or ()] == ["system", "user"]


def test_a_chat_that_was_never_begun_is_what_the_sample_was_given(tmp_path: Path) -> None:
    given = [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "2 + 5?"}]
    for value, wanted in (("2 + 5?", given[1:]), (given, given)):
        path = altered(tmp_path, lambda each, value=value: each.update(messages=[], input=value))
        assert list(first(path).messages or ()) == wanted


@pytest.mark.parametrize("begun", [True, False])
def test_what_the_log_keeps_apart_is_put_back(tmp_path: Path, begun: bool) -> None:
    asked = "What is 2 + 5? " * 9

    def put_apart(sample: Fields) -> None:
        turn = {"role": "user", "content": "attachment://5a1d", "id": "asked"}
        sample["messages"][-2], sample["input"] = turn, [turn]
        sample["messages"] = sample["messages"] if begun else []
        sample["attachments"] = {"5a1d": asked}

    kept = first(altered(tmp_path, put_apart))
    assert (kept.messages or ())[-1] == {"role": "user", "content": asked}


def _call(sample: Fields) -> Fields:
    call: Fields
    (call,) = [each for each in sample["events"] if each["event"] == "model"]
    return call


def _graded_by_a_model(sample: Fields) -> None:
    """A scorer asks a model, as `model_graded_qa` does, after the answer was given."""
    call = copy.deepcopy(_call(sample))
    call["output"]["choices"][0]["message"]["id"] = "grade"
    sample["events"].append({**call, "config": {"temperature": 0.0}})


def _graded_in_a_role(sample: Fields) -> None:
    """The same of a log whose turns have no id."""
    for call in (each for each in sample["events"] if each["event"] == "model"):
        del call["output"]["choices"][0]["message"]["id"]
    del sample["output"]["choices"][0]["message"]["id"]
    sample["events"].append({**_call(sample), "role": "grader", "config": {"temperature": 0.0}})


CALLS: dict[str, tuple[Callable[[Fields], Any], float | None]] = {
    "graded by a model": (_graded_by_a_model, 0.7),
    "graded by a model in a role": (_graded_in_a_role, 0.7),
    "not logged": (lambda each: each.update(events=[]), None),
    "not set": (lambda each: _call(each)["config"].pop("temperature"), None),
    # Logs of other versions have settings that this one does not know.
    "unknown settings": (lambda each: _call(each)["config"].update(no_such_setting=1), 0.7),
}


@pytest.mark.parametrize("call", CALLS)
def test_the_temperature_is_that_of_the_call_that_answered(tmp_path: Path, call: str) -> None:
    change, wanted = CALLS[call]
    assert first(altered(tmp_path, change)).temperature == wanted


@pytest.mark.parametrize(
    ("values", "grade", "said"),
    [
        (["C"], True, "a0"),
        (["I"], False, "a0"),
        (["P", "N"], None, None),
        (["P", 1], True, "a1"),
        ([0.25, 0.0], False, "a1"),
        ([True], True, "a0"),
        ([{"C": 1}, [1], float("nan")], None, None),
        ([], None, None),
    ],
)
def test_the_first_score_that_is_a_grade_counts(
    tmp_path: Path, values: list[Any], grade: bool | None, said: str | None
) -> None:
    scores = {
        f"s{n}": {"value": value, "answer": f"a{n}", "history": []}
        for n, value in enumerate(values)
    }
    kept = first(altered(tmp_path, lambda each: each.update(scores=scores)))
    assert (kept.correct, kept.answer) == (grade, said)


@pytest.mark.parametrize(
    ("target", "gold"), [("7", "7"), (["7"], "7"), (["7", "seven"], None), ("", None), ([], None)]
)
def test_the_gold_answer_is_one_text(tmp_path: Path, target: Any, gold: str | None) -> None:
    assert first(altered(tmp_path, lambda each: each.update(target=target))).gold == gold


def test_what_the_log_knows_of_a_problem_is_kept(tmp_path: Path) -> None:
    said = {"difficulty": 3, "subject": None, "deep": {"a": [1, {"b": None}]}}
    kept = first(altered(tmp_path, lambda each: each.update(metadata=said)))
    assert (kept.difficulty, kept.subject) == ("3", None)
    assert kept.extra["metadata"] == said
    kept = first(altered(tmp_path, lambda each: each["output"].update(model="")))
    assert kept.generator == "mockllm/smollm2-135m-maths"
