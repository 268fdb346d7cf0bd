"""Chats and pairs of prompt and response: which turn is the response, and what stays beside it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs import RECORDS, carrier_records, chat_records, jsonl, plainly, read, write

from probing.carriers.fields import Unusable, fields_of
from probing.carriers.readers.chat import chat_fields
from probing.carriers.readers.turns import Turn, parts_of, turns
from probing.carriers.record import Carrier
from probing.errors import NoCarriersLeft
from probing.settings import Inputs
from probing.tokens.templates import TEMPLATE_OPTIONS
from probing.vocabulary import Template

USER = {"role": "user", "content": "1 + 1 ="}
SYSTEM = {"role": "system", "content": "Be brief."}
ANSWER = {"role": "assistant", "content": "2"}
KEPT: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "the last turn of a chat",
        {"messages": [SYSTEM, USER, ANSWER]},
        {"messages": (SYSTEM, USER), "response": "2"},
    ),
    (
        "the last of several answers",
        {"messages": [USER, ANSWER, USER, {"role": "assistant", "content": "again 2"}]},
        {"messages": (USER, ANSWER, USER), "response": "again 2"},
    ),
    (
        "the names that ShareGPT has",
        {
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": "1 + 1 ="},
                {"from": "gpt", "value": "2"},
            ]
        },
        {"messages": (SYSTEM, USER), "response": "2"},
    ),
    (
        "thinking in a field of its own",
        {"messages": [USER, {**ANSWER, "reasoning_content": "Hmm"}]},
        {"messages": (USER,), "response": "<think>\nHmm\n</think>\n\n2"},
    ),
    (
        "thinking with the line breaks of the model",
        {"messages": [USER, {**ANSWER, "content": "\n\n2", "reasoning": "\nHmm\n"}]},
        {"messages": (USER,), "response": "<think>\nHmm\n</think>\n\n2"},
    ),
    (
        "parts",
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "1 + 1"}, " ="]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "Hmm"},
                        {"type": "output_text", "text": "2"},
                    ],
                },
            ]
        },
        {"messages": (USER,), "response": "<think>\nHmm\n</think>\n\n2"},
    ),
    *[
        (
            f"prompt and {name}",
            {"prompt": "1 + 1 =", name: "2"},
            {"prompt": "1 + 1 =", "response": "2"},
        )
        for name in ("response", "completion", "output", "generation")
    ],
    (
        "the first that is there, the others beside",
        {"prompt": "1 + 1 =", "response": "2", "output": "3"},
        {"prompt": "1 + 1 =", "response": "2", "extra": {"output": "3"}},
    ),
    (
        "an empty one beside one that is not",
        {"prompt": "1 + 1 =", "response": "", "output": "3"},
        {"prompt": "1 + 1 =", "response": "3"},
    ),
    (
        "a prompt and a completion of messages",
        {"prompt": [USER], "completion": [ANSWER]},
        {"messages": (USER,), "response": "2"},
    ),
    (
        "a list of one response",
        {"prompt": "1 + 1 =", "generation": ["2"]},
        {"prompt": "1 + 1 =", "response": "2"},
    ),
    (
        "a response beside a chat that asks",
        {"messages": [SYSTEM, USER], "output": "2"},
        {"messages": (SYSTEM, USER), "response": "2"},
    ),
    (
        "the turn of a chat that ends with one, whatever stands beside it",
        {"messages": [USER, ANSWER], "response": "of the data", "output": "other"},
        {
            "messages": (USER,),
            "response": "2",
            "extra": {"response_beside": "of the data", "output": "other"},
        },
    ),
    (
        "a prompt beside the whole chat",
        {"prompt": "1 + 1 =", "messages": [USER, ANSWER]},
        {"prompt": "1 + 1 =", "messages": (USER,), "response": "2"},
    ),
    (
        "a chat beside an empty one",
        {"messages": [], "conversations": [USER, ANSWER]},
        {"messages": (USER,), "response": "2"},
    ),
    (
        "the second of two chats beside the first",
        {"messages": [USER, ANSWER], "conversations": "other"},
        {"messages": (USER,), "response": "2", "extra": {"conversations": "other"}},
    ),
    (
        "numbers as their digits, others beside",
        {
            "messages": [USER, ANSWER], "answer": 2, "difficulty": 3.5, "subject": ["sums"],
            "source": {"a": 1}, "temperature": "hot", "correct": "yes", "target": [2],
        },
        {
            "messages": (USER,), "response": "2", "difficulty": "3.5",
            "extra": {
                "subject": ["sums"], "source": {"a": 1}, "temperature": "hot", "target": [2],
                "correct_logged": "yes", "answer_logged": 2,
            },
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize(("record", "wanted"), [k[1:] for k in KEPT], ids=[k[0] for k in KEPT])
def test_a_chat_gives_this_carrier(
    tmp_path: Path, record: dict[str, Any], wanted: dict[str, Any]
) -> None:
    path = write(tmp_path / "in.jsonl", [{**record, "model": "m"}])
    (kept,) = read(path).carriers
    beside = {"model": "m", **wanted.pop("extra", {})}
    assert plainly(kept) == {**wanted, "generator": "m", "extra": beside}
    assert kept.carrier_id == f"{path}:1"


@pytest.mark.parametrize(
    ("record", "grade", "gold"),
    [
        ({"correct": True}, True, None),
        ({"is_correct": False}, False, None),
        ({"score": 1}, True, None),
        ({"score": 0.0, "is_passed": True}, False, None),
        ({"score": 0.5}, None, None),
        ({"score": 0.5, "is_passed": True}, True, None),
        ({"correct": "yes", "score": 1}, True, None),
        ({"gold": "7", "target": "8"}, None, "7"),
        ({"target": 7}, None, "7"),
        ({"ground_truth": [7], "reference_answer": 7.5}, None, "7.5"),
        ({"solution": True}, None, None),
        ({"solution": float("nan")}, None, None),
        ({"gold": 7}, None, "7"),
        ({"gold": None, "solution": "so 7"}, None, "so 7"),
    ],
)
def test_grades_and_gold_answers_stand_under_several_names(
    tmp_path: Path, record: dict[str, Any], grade: bool | None, gold: str | None
) -> None:
    (kept,) = read(
        write(tmp_path / "in.jsonl", [{"prompt": "x", "output": "y", "model": "m", **record}])
    ).carriers
    assert (kept.correct, kept.gold) == (grade, gold)


SKIPPED: list[tuple[str, str, dict[str, Any]]] = [
    ("no response", "the last turn is 'user'", {"messages": [USER]}),
    ("no response", "the last turn is 'user'", {"messages": [USER, ANSWER, USER]}),
    ("no response", "no turn", {"messages": []}),
    ("no response", "no turn", {"messages": None, "prompt": "x"}),
    ("empty response", "carrier", {"prompt": "x", "response": ""}),
    ("empty response", "carrier", {"messages": [USER, {"role": "assistant", "content": None}]}),
    ("wrong type", "list of messages", {"messages": "text"}),
    ("wrong type", "got str", {"messages": ["text"]}),
    ("wrong type", "needs `role`", {"messages": [{"content": "x"}, ANSWER]}),
    ("wrong type", "text or parts", {"messages": [USER, {"role": "assistant", "content": 7}]}),
    ("wrong type", "one text, got list", {"prompt": "x", "output": ["a", "b"]}),
    ("wrong type", "one text, got dict", {"prompt": "x", "output": {"text": "a"}}),
    ("wrong type", "thinking", {"messages": [USER, {**ANSWER, "thinking": {"a": 1}}]}),
    (
        "not only text",
        "'image_url'",
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ANSWER]},
    ),
    *[
        ("not only text", "`messages` calls a tool", {"messages": [USER, {**ANSWER, **call}]})
        for call in (
            {"tool_calls": [{"function": {"name": "add"}}]},
            {"content": None, "function_call": {"name": "add", "arguments": "{}"}},
            {"role": "function_call"},
        )
    ],
    (
        "not only text",
        "`messages` calls a tool",
        {
            "messages": [
                USER,
                {**ANSWER, "tool_calls": [1]},
                {"role": "tool", "content": "2"},
                ANSWER,
            ]
        },
    ),
    ("wrong type", "must be an object", {"prompt": "x", "output": "y", "chat_template_kwargs": 7}),
    ("invalid text", "surrogate", {"messages": [{"role": "user", "content": "\ud800"}, ANSWER]}),
    ("invalid text", "NUL", {"prompt": "x", "output": "a\0b"}),
    ("missing field", "--generator", {"messages": [USER, ANSWER], "model": ""}),
    ("missing field", "--generator", {"messages": [USER, ANSWER], "model": {"name": "m"}}),
    ("another format", "looks like lm-eval", {"doc_id": 1, "arguments": {}, "resps": []}),
    ("another format", "got note", {"note": 1}),
]


@pytest.mark.parametrize(("reason", "detail", "record"), SKIPPED)
def test_a_chat_at_fault_is_skipped_and_named(
    tmp_path: Path, reason: str, detail: str, record: dict[str, Any]
) -> None:
    good = {"messages": [USER, ANSWER], "model": "m"}
    fault = {"model": "m", **record} if record != {"note": 1} else record
    path = tmp_path / "in.jsonl"
    # Escaped, as a lone surrogate can be in JSON.
    path.write_bytes(jsonl([good]) + json.dumps(fault).encode() + b"\n" + jsonl([good]))
    result = read(path)
    assert [each.carrier_id for each in result.carriers] == [f"{path}:1", f"{path}:3"]
    (skipped,) = result.skipped
    assert (skipped.line, skipped.reason) == (2, reason)
    assert detail in skipped.detail


def test_two_generators_share_the_problem_and_logs_of_any_form_do(tmp_path: Path) -> None:
    forms: list[dict[str, Any]] = [
        {"messages": [USER, ANSWER]},
        {"conversations": [{"from": "human", "value": "1 + 1 ="}, {"from": "gpt", "value": "2"}]},
        {"prompt": "1 + 1 =", "output": "2"},
        {"prompt": [USER], "completion": "2"},
        {"messages": [USER], "response": "2"},
    ]
    others = [{"messages": [SYSTEM, USER, ANSWER]}, {"prompt": "1 + 1 = ", "output": "2"}]
    rows = [{**form, "model": name} for name in ("a", "b") for form in [*forms, *others]]
    problems = [each.problem_id for each in read(write(tmp_path / "in.jsonl", rows)).carriers]
    half = len(forms) + len(others)
    assert problems[:half] == problems[half:]
    assert len(set(problems[: len(forms)])) == 1
    assert len(set(problems)) == 3


@pytest.mark.parametrize("name", ["problem_id", "question_id", "task_id"])
def test_a_log_that_names_the_problem_is_believed(tmp_path: Path, name: str) -> None:
    values = ("q", 7, 7.0, 7.5, "7.0", -0.0, "", [1])
    rows = [{"messages": [USER, ANSWER], "model": "m", name: value} for value in values]
    kept = read(write(tmp_path / "in.jsonl", rows)).carriers
    assert [each.problem_id for each in kept[:6]] == ["q", "7", "7", "7.5", "7.0", "0"]
    assert all(each.problem_id.startswith("prompt:") for each in kept[6:])


@given(st.lists(st.none() | st.integers(0, 2**40), min_size=1, max_size=5))
def test_a_column_in_which_a_number_is_missing_names_the_same_problems(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int | None]
) -> None:
    stored = [None if number is None else float(number) for number in numbers]
    rows = [
        [
            {"messages": [USER, ANSWER], "problem_id": number, "gold": number, "model": "m"}
            for number in column
        ]
        for column in (numbers, stored)
    ]
    folder = tmp_path_factory.mktemp("rows")
    whole, fractions = (
        read(write(folder / str(n) / "in.parquet", each)).carriers for n, each in enumerate(rows)
    )
    assert [(each.problem_id, each.gold) for each in whole] == [
        (each.problem_id, each.gold) for each in fractions
    ]


def test_settings_name_generators_and_templates(tmp_path: Path) -> None:
    chat, bare = chat_records("hub/m"), {"messages": [USER, ANSWER]}
    path = write(tmp_path / "in.jsonl", [*chat, bare])
    kept = read(
        path, generator="other", names={"hub/m": "baseline"}, template=Template.RAW
    ).carriers
    assert [each.generator for each in kept] == ["baseline", "baseline", "other"]
    assert [each.extra.get("logged_generator") for each in kept] == ["hub/m", "hub/m", None]
    # A template of one prompt takes the only message of the user, and no more.
    assert [(each.prompt, each.messages) for each in kept[2:]] == [("1 + 1 =", None)]
    several = write(tmp_path / "several.jsonl", [{"messages": [SYSTEM, USER, ANSWER]}, bare])
    result = read(several, generator="m", template=Template.RAW)
    assert [(each.line, each.reason) for each in result.skipped] == [(1, "no prompt")]


@pytest.mark.parametrize("name", ["messages", "conversations"])
def test_a_system_beside_a_chat_is_its_first_turn(tmp_path: Path, name: str) -> None:
    rows: list[dict[str, Any]] = [
        {name: [USER, ANSWER], "system": "Be brief."},
        {name: [SYSTEM, USER, ANSWER]},
        {name: [SYSTEM, USER, ANSWER], "system": "Be long."},
        {name: [USER, ANSWER], "system": ""},
        {name: [USER, ANSWER], "system": ["Be brief."]},
    ]
    kept = read(write(tmp_path / "in.jsonl", rows), generator="m").carriers
    assert [each.messages for each in kept] == [(SYSTEM, USER)] * 3 + [(USER,)] * 2
    assert [each.problem_id for each in kept[:1] + kept[3:4]] == [
        each.problem_id for each in kept[1:2] + kept[4:]
    ]
    assert [each.extra.get("system") for each in kept] == [
        None,
        None,
        "Be long.",
        "",
        ["Be brief."],
    ]


@pytest.mark.parametrize("options", [{}, {"chat_template_kwargs": {"enable_thinking": False}}])
def test_tools_beside_a_chat_reach_its_template_as_those_of_a_batch_do(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    told = {**options, "tools": [{"type": "function", "function": {"name": "add"}}]}
    asked = {"custom_id": "a", "body": {"messages": [USER], **told}}
    said = {"custom_id": "a", "response": {"body": {"choices": [{"message": ANSWER}]}}}
    batch = [write(tmp_path / f"{n}.jsonl", [row]) for n, row in enumerate((asked, said))]
    (wanted,) = read(*batch, generator="m").carriers
    chats = [
        {"messages": [USER, ANSWER], **told},
        {"prompt": [USER], "completion": "2", **told, "tools": json.dumps(told["tools"])},
    ]
    kept = read(write(tmp_path / "in.jsonl", chats), generator="m").carriers
    assert [(each.messages, each.extra) for each in kept] == [
        (wanted.messages, {TEMPLATE_OPTIONS: wanted.extra[TEMPLATE_OPTIONS]})
    ] * 2
    # What is no list of tools stays beside the carrier.
    other = [{"messages": [USER, ANSWER], "tools": tools} for tools in ("add", "7", "[", [], {})]
    kept = read(write(tmp_path / "other.jsonl", other), generator="m").carriers
    assert [each.extra for each in kept] == [{"tools": each["tools"]} for each in other]


@pytest.mark.parametrize("form", RECORDS)
def test_a_generator_has_one_name_here_and_its_logged_one_beside(tmp_path: Path, form: str) -> None:
    path = write(tmp_path / "in.jsonl", RECORDS[form]())
    kept = read(path, names={"m": "ssd", "typo": "baseline"})
    assert {each.generator for each in kept.carriers} == {"ssd"}
    assert {each.extra["logged_generator"] for each in kept.carriers} == {"m"}
    assert kept.notes == ("no response is by 'typo', which --name calls 'baseline'; logged are m",)
    # The first name stays when what was read is written, and named and read again.
    again = write(tmp_path / "again.jsonl", [fields_of(each) for each in kept.carriers])
    renamed = read(again, names={"ssd": "other"})
    assert {each.generator for each in renamed.carriers} == {"other"}
    assert {each.extra["logged_generator"] for each in renamed.carriers} == {"m"}
    assert renamed.notes == read(path, names={"m": "m"}).notes == ()


def test_the_settings_say_who_wrote_our_own_records_too(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {**each, "carrier_id": f"c{n}", "generator": None}
        for n, each in enumerate(carrier_records())
    ]
    rows = [rows[0], {key: value for key, value in rows[1].items() if key != "generator"}]
    path = write(tmp_path / "in.jsonl", rows)
    assert {each.generator for each in read(path, generator="m").carriers} == {"m"}
    (named, _) = read(path, generator="m", names={"m": "ssd"}).carriers
    assert (named.generator, named.extra["logged_generator"]) == ("ssd", "m")
    with pytest.raises(NoCarriersLeft, match="`generator` is required"):
        read(path)


EARLIER = {"role": "assistant", "content": "Ask."}
APPLIED = "<system>Be brief.<user>1 + 1 =<assistant>"
ASKED: list[tuple[str, dict[str, Any], str | None, str | None]] = [
    # What is asked, and the prompt that is read as it stands, and after a template.
    ("the only message", {"messages": [USER]}, "1 + 1 =", "1 + 1 ="),
    ("the prompt alone", {"prompt": "1 + 1 ="}, "1 + 1 =", "1 + 1 ="),
    ("the same prompt", {"prompt": "1 + 1 =", "messages": [USER]}, "1 + 1 =", "1 + 1 ="),
    ("another prompt", {"prompt": "2 + 2 =", "messages": [USER]}, None, None),
    ("several", {"messages": [SYSTEM, USER]}, None, None),
    ("one of several", {"prompt": "1 + 1 =", "messages": [SYSTEM, USER]}, None, None),
    ("the first of several", {"prompt": "a", "messages": [EARLIER, USER]}, None, None),
    ("all of several", {"prompt": APPLIED, "messages": [SYSTEM, USER]}, None, APPLIED),
    ("a template's", {"prompt": APPLIED, "messages": [USER]}, None, APPLIED),
    ("of the system", {"messages": [SYSTEM]}, None, None),
]


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(
    ("asked", "raw", "applied"), [a[1:] for a in ASKED], ids=[a[0] for a in ASKED]
)
def test_a_template_of_one_prompt_takes_all_that_was_asked_or_nothing(
    tmp_path: Path, own: bool, asked: dict[str, Any], raw: str | None, applied: str | None
) -> None:
    named = {"carrier_id": "a", "problem_id": "p"} if own else {}
    sound = {"prompt": "x", "response": "y", "generator": "m"}
    rows = [
        {**asked, **named, "response": "2", "generator": "m"},
        {**sound, **({"carrier_id": "b", "problem_id": "q"} if own else {})},
    ]
    path = write(tmp_path / "in.jsonl", rows)
    for template, prompt in ((Template.RAW, raw), (Template.ALREADY_APPLIED, applied)):
        result = read(path, template=template)
        found = [(each.prompt, each.template) for each in result.carriers if each.prompt != "x"]
        assert found == ([] if prompt is None else [(prompt, template)])
        assert [each.reason for each in result.skipped] == ["no prompt"] * (prompt is None)
    # A chat template takes any of them.
    assert len(read(path, template=Template.CHAT).carriers) == 2


# Laws against slow references

roles = st.sampled_from(["user", "assistant", "system", "tool"])
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
messages = st.lists(st.fixed_dictionaries({"role": roles, "content": words}), max_size=4)


@given(messages, st.none() | words)
def test_no_word_of_a_chat_is_lost(chat: list[dict[str, str]], beside: str | None) -> None:
    record = {"messages": chat, "output": beside, "note": 7}
    try:
        fields = chat_fields(record, Inputs())
    except Unusable:
        assert beside is None
        assert not chat or chat[-1]["role"] != "assistant"
        return
    assert fields["note"] == 7
    ends = bool(chat) and chat[-1]["role"] == "assistant"
    asked = chat[:-1] if ends else chat
    assert fields.get("messages", []) == asked
    assert fields["response"] == (chat[-1]["content"] if ends else beside)
    assert ends is False or fields["output"] == beside


@given(words, words.filter(bool))
def test_thinking_and_content_come_back_from_the_text(content: str, thinking: str) -> None:
    turn = Turn("assistant", content, thinking)
    text = turn.text(Inputs().thinking_format)
    rest = text.removeprefix("<think>\n")
    assert rest != text
    if not content:
        # Cut while it was thinking: what was not written is not written for it.
        assert rest == thinking.lstrip("\n")
        return
    thought, _, said = rest.rpartition("\n</think>\n\n")
    assert (thought, said) == (thinking.strip("\n"), content.lstrip("\n"))
    # A format without line breaks leaves those of the model.
    assert turn.text("<t>{thinking}</t>{content}") == f"<t>{thinking}</t>{content}"
    assert Turn("assistant", "a", "{content}").text("{thinking}|{content}") == "{content}|a"


@given(st.lists(st.tuples(st.sampled_from(["text", "reasoning", "thinking"]), words), max_size=5))
def test_parts_are_put_together_in_order(parts: list[tuple[str, str]]) -> None:
    found = parts_of("content", [{"type": kind, "text": text} for kind, text in parts])
    assert found.content == "".join(text for kind, text in parts if kind == "text")
    assert (found.thinking or "") == "".join(text for kind, text in parts if kind != "text")


def test_what_is_told_from_a_turn_is_a_role_and_a_text() -> None:
    assert turns("x", [{"from": "bot", "value": "a"}]) == [Turn("assistant", "a")]
    with pytest.raises(Unusable, match="list of messages"):
        turns("x", {})


def test_ids_are_the_same_when_read_again_and_however_the_path_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "sub" / "in.jsonl", chat_records())
    first = read(path).carriers
    assert read(path).carriers == first
    monkeypatch.chdir(tmp_path)
    twice = read("sub/in.jsonl", "./sub/in.jsonl", path)
    assert [each.carrier_id for each in twice.carriers] == ["sub/in.jsonl:1", "sub/in.jsonl:2"]
    assert [each.reason for each in twice.skipped] == ["duplicate id"] * 4
    assert [each.problem_id for each in twice.carriers] == [each.problem_id for each in first]
    assert isinstance(first[0], Carrier)
