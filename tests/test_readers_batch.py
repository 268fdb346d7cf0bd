"""Batches of OpenAI and vLLM: outputs joined with what was asked, whatever order files stand in."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs import QUESTIONS, batch_input, batch_output, chat_records, plainly, read, write

from probing.carriers.readers.prompts import Prompts
from probing.errors import NoCarriersLeft
from probing.vocabulary import Template


def answered(n: int, choice: dict[str, Any] | None = None, **body: Any) -> dict[str, Any]:
    said = choice or {"message": {"role": "assistant", "content": "7"}, "finish_reason": "stop"}
    return {
        "custom_id": f"r{n}",
        "response": {"status_code": 200, "body": {"model": "m", "choices": [said], **body}},
        "error": None,
    }


def test_outputs_are_joined_with_their_prompts(tmp_path: Path) -> None:
    asked = write(tmp_path / "asked.jsonl", batch_input())
    said = write(tmp_path / "said.jsonl", batch_output())
    kept = read(said, asked).carriers
    assert [each.carrier_id for each in kept] == [f"{said}:1.0", f"{said}:2.0"]
    assert [plainly(each) for each in kept] == [
        {
            "messages": ({"role": "user", "content": question},),
            "response": f"so {n}",
            "generator": "m",
            "finish_reason": "stop",
            "temperature": 0.5,
            "extra": {"custom_id": f"r{n}", "max_tokens": 9},
        }
        for n, question in enumerate(QUESTIONS)
    ]


def test_files_may_stand_in_any_order_and_be_split_anyhow(tmp_path: Path) -> None:
    requests, outputs = batch_input(), batch_output()
    files = [
        write(tmp_path / "asked1.jsonl", requests[:1]),
        write(tmp_path / "asked2.jsonl.gz", requests[1:]),
        write(tmp_path / "said1.jsonl", outputs[1:]),
        write(tmp_path / "said2.jsonl.zst", outputs[:1]),
    ]
    wanted = None
    for order in itertools.permutations(files):
        result = read(*order)
        found = {each.carrier_id: plainly(each) for each in result.carriers}
        wanted = wanted or found
        assert found == wanted
        assert len(found) == 2
        assert sorted(each.prompts for each in result.files) == [0, 0, 1, 1]
        assert result.rows_read == 4
    assert read(tmp_path).carriers


def test_every_choice_is_a_carrier_and_thinking_stands_before_it(tmp_path: Path) -> None:
    thought = {"content": "\n7", "reasoning_content": "Hmm\n"}
    cut = {"content": None, "reasoning_content": "Hmm"}
    choices = [
        {"index": 1, "message": {"role": "assistant", **thought}, "finish_reason": "stop"},
        {"index": 0, "message": {"role": "assistant", **cut}, "finish_reason": "length"},
        {"message": {"content": "7"}},
    ]
    record = answered(0)
    record["response"]["body"]["choices"] = choices
    path = write(tmp_path / "said.jsonl", [record])
    kept = read(write(tmp_path / "asked.jsonl", batch_input()), path).carriers
    assert [each.carrier_id for each in kept] == [f"{path}:1.1", f"{path}:1.0", f"{path}:1.2"]
    assert [each.response for each in kept] == [
        "<think>\nHmm\n</think>\n\n7",
        "<think>\nHmm",
        "7",
    ]
    assert [each.finish_reason for each in kept] == ["stop", "length", None]
    assert len({each.problem_id for each in kept}) == 1


def test_a_choice_at_fault_costs_itself_and_is_counted(tmp_path: Path) -> None:
    record = answered(0)
    empty = {"index": 1, "message": {"content": ""}}
    record["response"]["body"]["choices"] += [empty, {"index": 0, "message": {"content": "8"}}]
    result = read(
        write(tmp_path / "asked.jsonl", batch_input()), write(tmp_path / "said.jsonl", [record])
    )
    assert len(result.carriers) == 1
    assert [each.reason for each in result.skipped] == ["empty response", "duplicate id"]
    (asked, said) = result.files
    assert (asked.records, asked.responses, asked.prompts) == (2, 0, 2)
    assert (said.records, said.responses, said.kept, said.skipped) == (1, 3, 1, 2)


def test_completions_are_raw_text(tmp_path: Path) -> None:
    asked = [{"custom_id": "r0", "body": {"model": "other", "prompt": "3 + 4 =", "seed": 1}}]
    said = [answered(0, {"index": 0, "text": " 7", "finish_reason": "stop"}, model=None)]
    (kept,) = read(
        write(tmp_path / "asked.jsonl", asked), write(tmp_path / "said.jsonl", said)
    ).carriers
    assert plainly(kept) == {
        "prompt": "3 + 4 =", "response": " 7", "generator": "other", "template": Template.RAW,
        "finish_reason": "stop", "extra": {"custom_id": "r0", "seed": 1},
    }  # fmt: skip


def test_ids_stand_in_the_body_or_in_the_choice_and_need_no_prompt(tmp_path: Path) -> None:
    choice = {"text": "7", "token_ids": [5, 6]}
    said = [
        answered(0, {**choice, "prompt_token_ids": [1, 2]}),
        answered(1, choice, prompt_token_ids=[3]),
        answered(2, choice),
        answered(3, {"text": "7"}, prompt_token_ids=[3]),
        answered(4, {**choice, "token_ids": ["a"]}, prompt_token_ids=[3]),
    ]
    result = read(write(tmp_path / "said.jsonl", said))
    assert [(each.prompt_token_ids, each.response_token_ids) for each in result.carriers] == [
        ((1, 2), (5, 6)),
        ((3,), (5, 6)),
    ]
    assert [(each.line, each.reason) for each in result.skipped] == [
        (3, "no prompt"),
        (4, "no prompt"),
        (5, "wrong type"),
    ]
    with_prompt = read(
        write(tmp_path / "asked.jsonl", batch_input()), write(tmp_path / "said.jsonl", said[:2])
    ).carriers
    assert [each.messages is not None for each in with_prompt] == [True, True]
    assert [each.response_token_ids for each in with_prompt] == [(5, 6)] * 2


def test_what_else_the_template_was_told_stays_with_the_carrier(tmp_path: Path) -> None:
    asked = batch_input()
    asked[0]["body"] |= {"tools": [{"a": 1}], "chat_template_kwargs": {"enable_thinking": False}}
    asked[1]["body"]["chat_template_kwargs"] = [1]
    result = read(
        write(tmp_path / "asked.jsonl", asked), write(tmp_path / "said.jsonl", batch_output())
    )
    (kept,) = result.carriers
    wanted = {"enable_thinking": False, "tools": [{"a": 1}]}
    assert kept.extra["chat_template_kwargs"] == wanted
    assert [each.reason for each in result.skipped] == ["wrong type"]


FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("failed request", {"custom_id": "r0", "error": {"code": "expired"}, "response": None}),
    ("failed request", {"custom_id": "r0", "response": {"status_code": 500, "body": {}}}),
    ("no response", {"custom_id": "r0", "response": None, "error": None}),
    ("no response", {"custom_id": "r0", "response": {"status_code": 200, "body": None}}),
    ("no response", answered(0, choices=[])),
    ("no response", answered(0, choices={"a": 1})),
    ("wrong type", answered(0, choices=["7"])),
    ("wrong type", answered(0, {"message": {"role": None, "content": "7"}})),
    ("missing field", answered(0, {"message": "7"})),
    ("missing field", answered(0, {"index": 0})),
    ("no prompt", {**answered(0), "custom_id": "unasked"}),
    ("no prompt", {**answered(0), "custom_id": None}),
    ("another format", {"custom_id": "r0", "body": {}}),
    ("another format", {"custom_id": "r0"}),
]


@pytest.mark.parametrize(("reason", "fault"), FAULTS)
def test_an_answer_at_fault_is_skipped_and_named(
    tmp_path: Path, reason: str, fault: dict[str, Any]
) -> None:
    path = write(tmp_path / "said.jsonl", [answered(1), fault, answered(1)])
    result = read(path, write(tmp_path / "asked.jsonl", batch_input()))
    assert [each.carrier_id for each in result.carriers] == [f"{path}:1.0", f"{path}:3.0"]
    assert [(each.line, each.reason) for each in result.skipped] == [(2, reason)]


def test_what_is_no_request_is_named_and_a_request_may_ask_nothing(tmp_path: Path) -> None:
    asked = [*batch_input(), {"custom_id": "x"}, {"custom_id": "r2", "body": {"input": "3 + 4"}}]
    path = write(tmp_path / "asked.jsonl", asked)
    said = write(tmp_path / "said.jsonl", [answered(1), answered(2)])
    result = read(path, said)
    assert [(each.file, each.line, each.reason) for each in result.skipped] == [
        (str(path), 3, "another format"),
        (str(said), 2, "no prompt"),
    ]
    with pytest.raises(NoCarriersLeft, match="no carrier left of 4 records"):
        read(path)
    assert len(read(path, said, format="batch").carriers) == 1


def test_batches_of_two_models_ask_the_same_under_the_same_ids(tmp_path: Path) -> None:
    paths = []
    for model, heat in (("a", 0.5), ("b", 1.0)):
        requests = batch_input(model)
        for each in requests:
            each["body"]["temperature"] = heat
        paths.append(write(tmp_path / f"asked_{model}.jsonl", requests))
        paths.append(write(tmp_path / f"said_{model}.jsonl", batch_output(model)))
    kept = read(*paths).carriers
    assert [each.generator for each in kept] == ["a", "a", "b", "b"]
    assert kept[0].problem_id == kept[2].problem_id != kept[1].problem_id == kept[3].problem_id
    # Which of the two was this answer's is not known.
    assert {each.temperature for each in kept} == {None}
    assert {each.extra["max_tokens"] for each in kept} == {9}


def test_two_prompts_under_one_id_are_never_taken_for_each_other(tmp_path: Path) -> None:
    other = batch_input()
    other[0]["body"]["messages"] = [{"role": "user", "content": "another question"}]
    paths = [
        write(tmp_path / "one.jsonl", batch_input()),
        write(tmp_path / "two.jsonl", other),
        write(tmp_path / "said.jsonl", batch_output()),
    ]
    for order in itertools.permutations(paths):
        result = read(*order)
        assert [each.extra["custom_id"] for each in result.carriers] == ["r1"]
        assert sorted(each.reason for each in result.skipped) == ["duplicate id", "no prompt"]
        assert any("one batch at a time" in each.detail for each in result.skipped)


bodies = st.fixed_dictionaries(
    {"model": st.sampled_from("ab"), "messages": st.sampled_from([[1], [2]])},
    optional={"temperature": st.sampled_from([0, 1])},
)


@given(st.lists(st.tuples(st.sampled_from(["x", "é\ud800", ""]), bodies), max_size=8))
def test_what_an_id_asked_is_what_all_requests_with_it_say(
    asked: list[tuple[str, dict[str, Any]]],
) -> None:
    with Prompts() as prompts:
        for name, body in asked:
            prompts.add(name, body)
        for name in ("x", "é\ud800", "", "never"):
            all_said = [body for other, body in asked if other == name]
            found = prompts.find(name)
            if not all_said:
                assert found is None
            elif any(body["messages"] != all_said[0]["messages"] for body in all_said):
                assert found == {}
            else:
                assert found == {
                    key: value
                    for key, value in all_said[0].items()
                    if all(body.get(key) == value for body in all_said)
                }


def test_what_prompts_were_kept_in_is_gone_afterwards(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path))
        with Prompts() as prompts:
            assert list(tmp_path.iterdir()) == []
            prompts.add("x", {"prompt": "y"})
            assert len(list(tmp_path.iterdir())) == 1
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("answers", ["chat", "batch"])
def test_a_head_that_looks_like_a_request_costs_no_answer(
    tmp_path: Path, answers: str, heads: int
) -> None:
    head = {"custom_id": "run 7", "body": {"temperature": 1.0, "messages": []}}
    rows = (chat_records() if answers == "chat" else batch_output(ids=True)) * (heads + 1)
    rows = [{**each, "n": n} for n, each in enumerate(rows)]
    path = write(tmp_path / "in.jsonl", [*[head] * heads, *rows])
    result = read(path)
    assert len(result.carriers) == len(rows)
    assert [(each.line, each.reason) for each in result.skipped] == [
        (n, "another format") for n in range(1, heads + 1)
    ]
    # Where most are requests, what stands among them is no answer.
    asked = write(tmp_path / "asked.jsonl", [*batch_input(), chat_records()[0]])
    result = read(asked, write(tmp_path / "said.jsonl", batch_output()))
    assert len(result.carriers) == 2
    assert [(each.line, each.reason) for each in result.skipped] == [(3, "another format")]
