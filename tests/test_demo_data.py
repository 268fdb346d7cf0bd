"""The committed demo data: held-out carriers, and the adapters behind the models."""

import hashlib
import json
import random
import re
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from transformers import AutoTokenizer

from probing.carriers.reading import read_carriers
from probing.carriers.sampling import sample_carriers
from probing.run_file import load_run_file
from probing.scoring.bundled import TAUGHT_MODEL_NAME, bundled_gguf

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "ssd_smollm2"
ADAPTERS = {"baseline": 5_000_000, "ssd": 2_600_000, "control": 2_600_000}
"""Every adapter, and the most bytes it may have."""

GENERATORS = {TAUGHT_MODEL_NAME, "ssd"}
TEMPERATURES = {0.6, 1.0}
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
MAX_COMMITTED_BYTES = 12_000_000


@pytest.fixture(scope="module")
def carriers() -> list[dict[str, Any]]:
    lines = (EXAMPLE / "carriers.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


class Recipe(NamedTuple):
    """The recipe's own code, loaded from its folder."""

    problems: ModuleType
    solutions: ModuleType


@pytest.fixture(scope="module")
def recipe() -> Iterator[Recipe]:
    sys.path.insert(0, str(EXAMPLE))
    import problems
    import solutions

    yield Recipe(problems, solutions)
    sys.path.remove(str(EXAMPLE))


def last_question(prompt: str) -> str:
    """The user's turn."""
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


def test_both_models_answer_every_problem_at_both_temperatures(
    carriers: list[dict[str, Any]],
) -> None:
    found = Counter((c["problem_id"], c["generator"], c["temperature"]) for c in carriers)
    names = {problem for problem, _, _ in found}
    assert len(names) >= 100
    every = ((n, model, t) for n in names for model in GENERATORS for t in TEMPERATURES)
    assert found == dict.fromkeys(every, 1)
    for c in carriers:
        assert c["carrier_id"] == f"{c['problem_id']}/{c['generator']}/T{c['temperature']:g}"
    assert len({c["subject"] for c in carriers}) >= 4
    assert len({c["difficulty"] for c in carriers}) >= 3


def test_all_get_the_same_prompt(carriers: list[dict[str, Any]]) -> None:
    prompts: dict[str, set[tuple[str, str, tuple[int, ...]]]] = {}
    for carrier in carriers:
        seen = prompts.setdefault(carrier["problem_id"], set())
        seen.add((carrier["prompt"], carrier["gold"], tuple(carrier["prompt_token_ids"])))
    assert all(len(seen) == 1 for seen in prompts.values())
    assert len({next(iter(seen)) for seen in prompts.values()}) == len(prompts)


def test_no_held_out_content_occurs_in_training(
    carriers: list[dict[str, Any]], recipe: Recipe
) -> None:
    """All three models are trained on `training` alone: see the recipe."""
    splits = recipe.problems.split_problems()
    contents = [
        [content(p.family, p.question, p.gold) for p in part]
        for part in (splits.training, splits.development, splits.test)
    ]
    held_out = {
        content(carrier["subject"], last_question(carrier["prompt"]), carrier["gold"])
        for carrier in carriers
    }
    assert held_out == set(contents[2])
    assert len(contents[0]) >= 400
    assert len(contents[1]) >= 50
    together = [key for part in contents for key in part]
    assert len(set(together)) == len(together)


def test_carriers_are_the_test_problems_of_the_recipe(
    carriers: list[dict[str, Any]], recipe: Recipe
) -> None:
    expected = {
        (p.problem_id, p.question, p.gold, p.family, p.difficulty)
        for p in recipe.problems.split_problems().test
    }
    committed = {
        (c["problem_id"], last_question(c["prompt"]), c["gold"], c["subject"], c["difficulty"])
        for c in carriers
    }
    assert committed == expected


EQUATION = re.compile(r"(?<![\d*/+-])(-?\d+(?: (?:[-+*/]|mod) -?\d+)+) = (-?\d+)(?=[.])")


def test_worked_solutions_are_right_but_for_their_corrected_slips(recipe: Recipe) -> None:
    rng, slips, corrections, openings = random.Random(1), 0, 0, Counter[str]()
    for problem in recipe.problems.split_problems().training:
        text = recipe.solutions.worked_solution(problem, rng=rng)
        thought, _, answer = text.partition("\n</think>\n")
        assert re.findall(r"\\boxed\{(-?\d+)\}", answer) == [problem.gold]
        openings[thought.split()[0]] += 1
        corrected = re.search(r"\. (Wait|Hmm|Actually)", thought)
        corrections += corrected is not None
        for left, right in EQUATION.findall(thought):
            wrong = eval(left.replace("mod", "%")) != int(right)  # numbers and signs only
            slips += wrong
            assert not wrong or f"{left} = {right}. " in thought[: corrected.start() + 2]
    assert slips == corrections > 100
    assert len(openings) >= 4


def test_the_baseline_gets_some_right_and_some_wrong(carriers: list[dict[str, Any]]) -> None:
    own = [c for c in carriers if (c["generator"], c["temperature"]) == (TAUGHT_MODEL_NAME, 0.6)]
    right = sum(c["correct"] is True for c in own)
    assert 0.2 <= right / len(own) <= 0.8


def test_the_demo_samples_whole_problems_within_its_tokens(
    carriers: list[dict[str, Any]],
) -> None:
    settings = load_run_file(EXAMPLE / "demo.toml")
    read = read_carriers([str(EXAMPLE / "carriers.jsonl")]).carriers
    lengths = {c["carrier_id"]: len(c["response_token_ids"]) for c in carriers}
    totals = {c["carrier_id"]: len(c["prompt_token_ids"]) for c in carriers}
    sample = sample_carriers(
        read,
        lengths=[lengths[one.carrier_id] for one in read],
        settings=settings.sampling,
        rng=np.random.default_rng(settings.sampling.seed),
    )
    per_problem = Counter(one.problem_id for one in sample.carriers)
    assert set(per_problem.values()) == {4}
    assert len(per_problem) >= 45
    tokens = sum(lengths[c.carrier_id] + totals[c.carrier_id] for c in sample.carriers)
    assert 20_000 <= tokens <= MAX_TOTAL_TOKENS


def test_prompts_open_the_thought(carriers: list[dict[str, Any]]) -> None:
    assert all(c["prompt"].endswith("<|im_start|>assistant\n<think>\n") for c in carriers)
    assert sum("</think>" in c["response"] for c in carriers) > 0.9 * len(carriers)


def test_ids_are_in_range_and_lengths_fit(carriers: list[dict[str, Any]]) -> None:
    for carrier in carriers:
        ids = carrier["prompt_token_ids"] + carrier["response_token_ids"]
        assert all(0 <= token < VOCABULARY_SIZE for token in ids)
        assert 1 <= len(carrier["response_token_ids"]) <= MAX_NEW_TOKENS
        # A token of this vocabulary is rarely longer than 12 characters, and a digit is one token.
        assert len(ids) <= len((carrier["prompt"] + carrier["response"]).encode()) <= 12 * len(ids)


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


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_are_small_and_float16(name: str) -> None:
    file = EXAMPLE / "adapters" / name / "adapter_model.safetensors"
    header = safetensors_header(file)
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    assert file.stat().st_size < ADAPTERS[name]
    assert len(tensors) == 2 * 7 * 30, "A and B of the seven linear layers of thirty blocks"
    assert {entry["dtype"] for entry in tensors.values()} == {"F16"}


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapter_configs_name_no_place(name: str) -> None:
    file = EXAMPLE / "adapters" / name / "adapter_config.json"
    text = file.read_text(encoding="utf-8")
    assert json.loads(text)["base_model_name_or_path"] is None
    assert not re.search(r"[/\\~]", text)


def test_what_is_committed_is_small() -> None:
    files = [*(EXAMPLE / "adapters").rglob("*.*"), EXAMPLE / "carriers.jsonl"]
    assert sum(file.stat().st_size for file in files) < MAX_COMMITTED_BYTES


def test_log_names_no_absolute_path_and_holds_the_digests() -> None:
    log = (EXAMPLE / "recipe.log").read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/\w", log)
    weights = [f"adapters/{name}/adapter_model.safetensors" for name in ADAPTERS]
    for name in ("carriers.jsonl", *weights):
        digest = hashlib.sha256((EXAMPLE / name).read_bytes()).hexdigest()
        assert f"{name}: " in log
        assert digest in log
        assert digest in (EXAMPLE / "README.md").read_text(encoding="utf-8")
