"""The committed demo data: held-out carriers and the adapter that wrote half of them."""

import hashlib
import importlib.util
import json
import re
import struct
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from transformers import AutoTokenizer

from probing.scoring.bundled import bundled_gguf

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "ssd_smollm2"
ADAPTER = EXAMPLE / "adapters" / "ssd"
GENERATORS = {"smollm2-135m-instruct", "ssd"}
FIELDS = {
    "carrier_id",
    "problem_id",
    "prompt",
    "response",
    "generator",
    "prompt_token_ids",
    "response_token_ids",
    "template",
    "gold",
    "answer",
    "correct",
    "finish_reason",
    "temperature",
    "difficulty",
    "subject",
    "source",
}
VOCABULARY_SIZE = 49152
END_OF_TURN = 2
MAX_NEW_TOKENS = 160
MAX_TOTAL_TOKENS = 25_000
MAX_ADAPTER_BYTES = 3_000_000


@pytest.fixture(scope="module")
def carriers() -> list[dict[str, Any]]:
    lines = (EXAMPLE / "carriers.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def problems() -> ModuleType:
    """The recipe's own problem code, loaded from its file."""
    spec = importlib.util.spec_from_file_location("ssd_problems", EXAMPLE / "problems.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up here
    spec.loader.exec_module(module)
    return module


def last_question(prompt: str) -> str:
    """The last user turn: the question, without the worked example before it."""
    return re.findall(r"<\|im_start\|>user\n(.*?)<\|im_end\|>", prompt, flags=re.DOTALL)[-1]


def content(family: str, question: str, answer: str) -> tuple[str, tuple[int, ...], int]:
    """Family, sorted numbers and answer, computed apart from the recipe's own `content_key`."""
    return family, tuple(sorted(int(n) for n in re.findall(r"\d+", question))), int(answer)


def safetensors_header(file: Path) -> dict[str, Any]:
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length])


def test_every_carrier_has_exactly_the_fields(carriers: list[dict[str, Any]]) -> None:
    assert all(set(carrier) == FIELDS for carrier in carriers)
    assert {carrier["template"] for carrier in carriers} == {"already_applied"}
    assert {carrier["source"] for carrier in carriers} == {"reasoning-gym"}
    assert {carrier["temperature"] for carrier in carriers} == {1.0}


def test_both_models_answer_every_problem_once(carriers: list[dict[str, Any]]) -> None:
    pairs = Counter((carrier["problem_id"], carrier["generator"]) for carrier in carriers)
    names = {problem_id for problem_id, _ in pairs}
    assert len(names) >= 48
    assert pairs == dict.fromkeys(((name, model) for name in names for model in GENERATORS), 1)
    assert all(c["carrier_id"] == f"{c['problem_id']}/{c['generator']}" for c in carriers)


def test_both_models_get_the_same_prompt(carriers: list[dict[str, Any]]) -> None:
    prompts: dict[str, set[tuple[str, str, tuple[int, ...]]]] = {}
    for carrier in carriers:
        seen = prompts.setdefault(carrier["problem_id"], set())
        seen.add((carrier["prompt"], carrier["gold"], tuple(carrier["prompt_token_ids"])))
    assert all(len(seen) == 1 for seen in prompts.values())
    assert len({next(iter(seen)) for seen in prompts.values()}) == len(prompts)


def test_no_held_out_content_occurs_in_training(
    carriers: list[dict[str, Any]], problems: ModuleType
) -> None:
    training = {
        content(problem.family, problem.question, problem.gold)
        for problem in problems.split_problems().training
    }
    held_out = {
        content(carrier["subject"], last_question(carrier["prompt"]), carrier["gold"])
        for carrier in carriers
    }
    assert len(training) >= 64
    assert held_out.isdisjoint(training)


def test_carriers_are_the_held_out_problems_of_the_recipe(
    carriers: list[dict[str, Any]], problems: ModuleType
) -> None:
    expected = {
        (p.problem_id, p.question, p.gold, p.family, p.difficulty)
        for p in problems.split_problems().held_out
    }
    committed = {
        (c["problem_id"], last_question(c["prompt"]), c["gold"], c["subject"], c["difficulty"])
        for c in carriers
    }
    assert committed == expected


def test_no_worked_example_shows_a_held_out_problem(carriers: list[dict[str, Any]]) -> None:
    for carrier in carriers:
        turns = re.findall(r"<\|im_start\|>user\n(.*?)<\|im_end\|>", carrier["prompt"], re.DOTALL)
        shown = re.findall(r"\\boxed\{(-?\d+)\}<\|im_end\|>", carrier["prompt"])
        assert len(turns) == 2, "one worked example, then the question"
        example = content(carrier["subject"], turns[0], shown[-1])
        assert example != content(carrier["subject"], turns[1], carrier["gold"])


def test_prompts_open_the_thought(carriers: list[dict[str, Any]]) -> None:
    assert all(c["prompt"].endswith("<|im_start|>assistant\n<think>\n") for c in carriers)
    assert sum("</think>" in c["response"] for c in carriers) > len(carriers) / 3


def test_ids_are_in_range_and_lengths_fit(carriers: list[dict[str, Any]]) -> None:
    total = 0
    for carrier in carriers:
        ids = carrier["prompt_token_ids"] + carrier["response_token_ids"]
        assert all(0 <= token < VOCABULARY_SIZE for token in ids)
        assert 1 <= len(carrier["response_token_ids"]) <= MAX_NEW_TOKENS
        # A token of this vocabulary is rarely longer than 12 characters, and a digit is one token.
        assert len(ids) <= len((carrier["prompt"] + carrier["response"]).encode()) <= 12 * len(ids)
        total += len(ids)
    assert total <= MAX_TOTAL_TOKENS


def test_finish_reason_agrees_with_the_last_token(carriers: list[dict[str, Any]]) -> None:
    for carrier in carriers:
        ids, stopped = carrier["response_token_ids"], carrier["finish_reason"] == "stop"
        assert END_OF_TURN not in ids[:-1]
        assert (ids[-1] == END_OF_TURN) == stopped
        assert stopped or (carrier["finish_reason"], len(ids)) == ("length", MAX_NEW_TOKENS)
        assert carrier["response"].endswith("<|im_end|>") == stopped


def test_text_is_the_decoding_of_the_ids(carriers: list[dict[str, Any]]) -> None:
    gguf = bundled_gguf()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    for carrier in carriers:
        for part in ("prompt", "response"):
            ids = carrier[f"{part}_token_ids"]
            assert tokenizer.decode(ids, skip_special_tokens=False) == carrier[part]
        assert tokenizer(carrier["prompt"])["input_ids"] == carrier["prompt_token_ids"]


def test_grades_follow_the_documented_rule(carriers: list[dict[str, Any]]) -> None:
    for carrier in carriers:
        if carrier["answer"] is None:
            assert carrier["correct"] is (False if carrier["finish_reason"] == "stop" else None)
        else:
            last_box = carrier["response"].rpartition("\\boxed{")[2]
            assert last_box.lstrip().startswith(carrier["answer"])
        if carrier["correct"]:
            assert int(carrier["answer"]) == int(carrier["gold"])
        if carrier["answer"] == carrier["gold"]:
            assert carrier["correct"] is True
    assert {True, False} <= {carrier["correct"] for carrier in carriers}


def test_adapter_is_small_and_float16() -> None:
    file = ADAPTER / "adapter_model.safetensors"
    header = safetensors_header(file)
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    assert file.stat().st_size < MAX_ADAPTER_BYTES
    assert len(tensors) == 2 * 7 * 30, "A and B of the seven linear layers of thirty blocks"
    assert {entry["dtype"] for entry in tensors.values()} == {"F16"}


def test_adapter_config_names_no_place() -> None:
    text = (ADAPTER / "adapter_config.json").read_text(encoding="utf-8")
    assert json.loads(text)["base_model_name_or_path"] is None
    assert not re.search(r"[/\\~]", text)


def test_log_names_no_absolute_path_and_holds_the_digests() -> None:
    log = (EXAMPLE / "recipe.log").read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/\w", log)
    for name in ("carriers.jsonl", "adapters/ssd/adapter_model.safetensors"):
        digest = hashlib.sha256((EXAMPLE / name).read_bytes()).hexdigest()
        assert f"{name}: " in log
        assert digest in log
        assert digest in (EXAMPLE / "README.md").read_text(encoding="utf-8")
