"""Seeded batched sampling of responses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from problems import PREFILL, Problem, prompt_messages


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How responses are sampled; `top_k = 0` and `top_p = 1` switch truncation off."""

    temperature: float
    top_k: int = 0
    top_p: float = 1.0
    max_new_tokens: int = 160


@dataclass(frozen=True)
class Response:
    """One sampled response. `response` is exactly the decoding of `response_token_ids`.

    The end-of-turn token is kept where the model wrote it; `finish_reason` is then "stop", and
    "length" otherwise.
    """

    problem: Problem
    prompt: str
    prompt_token_ids: tuple[int, ...]
    response: str
    response_token_ids: tuple[int, ...]
    finish_reason: str


def templated_prompt(tokenizer: Any, problem: Problem) -> str:
    """The prompt as text: chat template, then the opened thought."""
    text = tokenizer.apply_chat_template(
        prompt_messages(problem), tokenize=False, add_generation_prompt=True
    )
    return text + PREFILL


def sample_responses(
    model: Any,
    tokenizer: Any,
    problems: Sequence[Problem],
    *,
    decoding: Decoding,
    seed: int,
    batch_size: int = 64,
) -> list[Response]:
    """One response per problem, in the order of `problems`, none filtered."""
    torch.manual_seed(seed)
    responses: list[Response] = []
    for start in range(0, len(problems), batch_size):
        batch = problems[start : start + batch_size]
        responses += _sample_batch(model, tokenizer, batch, decoding=decoding)
    return responses


def _sample_batch(
    model: Any, tokenizer: Any, problems: Sequence[Problem], *, decoding: Decoding
) -> list[Response]:
    prompts = [templated_prompt(tokenizer, problem) for problem in problems]
    # Padding is on the left here only, so that every row's last token is its prompt's last token.
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
    with torch.inference_mode():
        output = model.generate(
            **inputs,
            do_sample=True,
            temperature=decoding.temperature,
            top_k=decoding.top_k,
            top_p=decoding.top_p,
            max_new_tokens=decoding.max_new_tokens,
        )
    generated = output[:, inputs["input_ids"].shape[1] :].tolist()
    return [
        _response(tokenizer, problem, prompt, ids)
        for problem, prompt, ids in zip(problems, prompts, generated, strict=True)
    ]


def _response(tokenizer: Any, problem: Problem, prompt: str, generated: list[int]) -> Response:
    end = tokenizer.eos_token_id
    stopped = end in generated
    # Finished rows are filled with the padding id, which is the end-of-turn id: keep the first.
    ids = generated[: generated.index(end) + 1] if stopped else generated
    return Response(
        problem=problem,
        prompt=prompt,
        prompt_token_ids=tuple(tokenizer(prompt)["input_ids"]),
        response=tokenizer.decode(ids, skip_special_tokens=False),
        response_token_ids=tuple(ids),
        finish_reason="stop" if stopped else "length",
    )
