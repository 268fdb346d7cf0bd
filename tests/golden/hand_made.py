"""Writes the logs of `make_logs.py` that no tool here can write, in the shapes of their formats.

The texts of the batch come from a local model through Transformers; its shape follows OpenAI's
batch documentation and the protocol classes of vLLM, which cannot run here. The rest is invented.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

NAME = "smollm2-135m-maths"
SYSTEM = "Think step by step, then give the answer in \\boxed{}."
QUESTIONS = (
    "State the final answer to the following arithmetic problem: 2 + 5 =",
    "State the final answer to the following arithmetic problem: 4 + 9 - 3 =",
    "How many legs do 3 spiders and 2 dogs have together?",
)
CREATED = 1700000000


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """One JSON object a line, UTF-8, folders made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")


def _messages(question: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]


def _request(custom_id: str, question: str, **more: Any) -> dict[str, Any]:
    body = {"model": NAME, "messages": _messages(question), "max_tokens": 96, "temperature": 1.0}
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": body | more,
    }


def requests() -> list[dict[str, Any]]:
    """Eight requests: four answered, three failed in different ways, one without an answer."""
    return [
        _request("sum-0", QUESTIONS[0]),
        _request("sum-1", QUESTIONS[1], n=2, top_p=0.9),
        _request("legs-0", QUESTIONS[2], return_token_ids=True),
        _request("legs-short", QUESTIONS[2], max_tokens=8),
        _request("too-long", QUESTIONS[0], max_tokens=100000),
        _request("crashed", QUESTIONS[1]),
        _request("expired", QUESTIONS[2]),
        _request("unanswered", QUESTIONS[0]),
    ]


class Answerer:
    """Samples from the local model, in vLLM's shape of a chat completion."""

    def __init__(self, folder: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        torch.manual_seed(0)

    def body(self, request: dict[str, Any], *, reasoning_field: str | None) -> dict[str, Any]:
        """A `chat.completion`; with a `reasoning_field`, the thought is parted from the answer."""
        asked = request["body"]
        prompt = self.tokenizer.apply_chat_template(
            asked["messages"], tokenize=False, add_generation_prompt=True
        )
        prompt_ids = self.tokenizer(prompt + "<think>\n", add_special_tokens=False)["input_ids"]
        sampled = [self._sample(prompt_ids, asked["max_tokens"]) for _ in range(asked.get("n", 1))]
        with_ids = asked.get("return_token_ids", False)
        choices = [
            self._choice(index, ids, reasoning_field, with_ids=with_ids)
            for index, ids in enumerate(sampled)
        ]
        written = sum(len(ids) for ids in sampled)
        return {
            "id": f"chatcmpl-{request['custom_id']}",
            "object": "chat.completion",
            "created": CREATED,
            "model": asked["model"],
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": None,
            "usage": {
                "prompt_tokens": len(prompt_ids),
                "total_tokens": len(prompt_ids) + written,
                "completion_tokens": written,
                "prompt_tokens_details": None,
            },
            "prompt_logprobs": None,
            "prompt_token_ids": prompt_ids if with_ids else None,
            "kv_transfer_params": None,
        }

    def _sample(self, prompt_ids: list[int], max_tokens: int) -> list[int]:
        output = self.model.generate(
            torch.tensor([prompt_ids]), do_sample=True, top_k=0, max_new_tokens=max_tokens
        )
        return [int(token) for token in output[0, len(prompt_ids) :]]

    def _choice(
        self, index: int, ids: list[int], reasoning_field: str | None, *, with_ids: bool
    ) -> dict[str, Any]:
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        ended = ids[-1] == self.tokenizer.eos_token_id
        return {
            "index": index,
            "message": {
                "role": "assistant",
                "refusal": None,
                "annotations": None,
                "audio": None,
                "function_call": None,
                "tool_calls": [],
            }
            | _parted(text, reasoning_field),
            "logprobs": None,
            "finish_reason": "stop" if ended else "length",
            "stop_reason": None,
            "token_ids": ids if with_ids else None,
        }


def _parted(text: str, reasoning_field: str | None) -> dict[str, Any]:
    """As vLLM's reasoning parser does; an unclosed thought is all reasoning, content is null."""
    if reasoning_field is None:
        return {"content": text}
    thought, closed, answer = text.partition("</think>")
    return {"content": answer if closed else None, reasoning_field: thought}


def _line(custom_id: str, response: dict[str, Any] | None, error: Any = None) -> dict[str, Any]:
    if response is not None:
        response = {"status_code": 200, "request_id": f"vllm-batch-{custom_id}"} | response
    line = {"id": f"vllm-{custom_id}", "custom_id": custom_id, "response": response}
    return line | {"error": error}


def _failed(message: str, code: int) -> dict[str, Any]:
    kind = "BadRequestError" if code == 400 else "InternalServerError"
    return {"message": message, "type": kind, "param": None, "code": code}


def write_batch(model_folder: str, folder: Path) -> None:
    """`input.jsonl` and `output.jsonl`, the latter in another order, as batches come back."""
    asked = requests()
    by_id = {request["custom_id"]: request for request in asked}
    answerer = Answerer(model_folder)
    # Older vLLM and most other servers write `reasoning_content`, newer vLLM `reasoning`; without
    # a reasoning parser the whole text is the content.
    fields = {
        "sum-0": "reasoning_content",
        "sum-1": None,
        "legs-0": "reasoning",
        "legs-short": "reasoning_content",
    }
    lines = [
        _line(name, {"body": answerer.body(by_id[name], reasoning_field=field)})
        for name, field in fields.items()
    ]
    too_long = {"error": _failed("max_tokens is larger than the model's context", 400)}
    # vLLM puts what went wrong into `error` and leaves the body out; OpenAI puts it in the body.
    lines.append(_line("too-long", {"status_code": 400, "body": None}, too_long))
    crashed = {"error": _failed("the engine stopped", 500)}
    lines.append(_line("crashed", {"status_code": 500, "body": crashed}))
    expired = {"code": "batch_expired", "message": "This request was not executed in time."}
    lines.append(_line("expired", None, expired))
    write_jsonl(folder / "input.jsonl", asked)
    write_jsonl(folder / "output.jsonl", lines[::-1])


def write_chat(folder: Path) -> None:
    """Chat, `conversations`, prompt + completion, and what ml-ssd trains on."""
    turns = [*_messages("What is 2 + 5?"), {"role": "assistant", "content": "\\boxed{7}"}]
    thought = {"role": "assistant", "content": "\\boxed{10}", "reasoning_content": "4 + 9 - 3."}
    parts = [{"type": "text", "text": "Wie viel ist 6 × 7? ✓"}]
    write_jsonl(
        folder / "messages.jsonl",
        [
            {"messages": turns, "model": NAME, "correct": True, "note": "kept as an extra"},
            {"messages": [*turns, {"role": "user", "content": "And 4 + 9 - 3?"}, thought]},
            {
                "messages": [
                    {"role": "user", "content": parts},
                    {"role": "assistant", "content": "42"},
                ]
            },
            {"messages": turns[:2], "model": NAME},
        ],
    )
    write_jsonl(
        folder / "conversations.jsonl",
        [
            {
                "id": "c-0",
                "conversations": [
                    {"from": "system", "value": SYSTEM},
                    {"from": "human", "value": "What is 2 + 5?"},
                    {"from": "gpt", "value": "<think>\n2 + 5 = 7.\n</think>\n\n\\boxed{7}"},
                ],
            },
            {
                "id": "c-1",
                "conversations": [
                    {"from": "human", "value": "What is 4 + 9?"},
                    {"from": "gpt", "value": "13"},
                    {"from": "human", "value": "And minus 3?"},
                    {"from": "gpt", "value": "10"},
                ],
            },
        ],
    )
    write_jsonl(
        folder / "completions.jsonl",
        [
            {"prompt": "2 + 5 =", "completion": " 7", "model": "base"},
            {"prompt": "4 + 9 =", "response": " 13", "generator": NAME, "is_correct": True},
            {"prompt": "6 × 7 =", "output": " 41", "is_correct": False, "temperature": 0.6},
            {"prompt": "Count: 1, 2,", "generation": " 3, 4,", "finish_reason": "length"},
        ],
    )


def write_ml_ssd(folder: Path) -> None:
    """`train.jsonl` and `train.parquet` as apple/ml-ssd names their fields."""
    asked = ["Write a function that adds two numbers.", "Print the sum of 2 and 5."]
    wrote = ["```python\ndef add(a, b):\n    return a + b\n```", "```python\nprint(2 + 5)\n```"]
    write_jsonl(
        folder / "train.jsonl",
        [
            {
                "messages": [
                    {"role": "user", "content": question},
                    {"role": "assistant", "content": output},
                ]
            }
            for question, output in zip(asked, wrote, strict=True)
        ],
    )
    columns = {
        "prompt": asked,
        "output": wrote,
        # Another text than the model's, and the one that `is_passed` grades.
        "response": ["add = lambda a, b: a + b", "print(6)"],
        "is_passed": [True, False],
    }
    pq.write_table(pa.table(columns), folder / "train.parquet")


def _boxed(number: int) -> dict[str, str]:
    return {"role": "assistant", "content": f"\\boxed{{{number}}}"}


def write_hub(folder: Path) -> None:
    """A dataset as `save_to_disk` leaves it, and a Parquet file as the hub serves it."""
    sums = [(left, left + 3) for left in range(6)]
    columns = {
        "messages": [
            [*_messages(f"What is {left} + {right}?"), _boxed(left + right + (left == 4))]
            for left, right in sums
        ],
        "model": [NAME if left % 2 else "smollm2-135m-instruct" for left, _ in sums],
        "is_correct": [left != 4 for left, _ in sums],
    }
    # Two shards, so that a reader has to follow `state.json`.
    Dataset.from_dict(columns).save_to_disk(str(folder / "saved"), num_shards=2)
    table = {
        "prompt": [f"{left} + {right} =" for left, right in sums],
        "generation": [f" {left + right}" if left else None for left, right in sums],
        "score": [1.0, 0.0, 1.0, None, 0.5, 1.0],
    }
    pq.write_table(pa.table(table), folder / "generations.parquet", row_group_size=4)
