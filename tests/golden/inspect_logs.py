"""Runs inspect_ai for `make_logs.py`: a mock model and a small local one, scored two ways.

`mockllm` answers each sample with an output of its own, so that the logs hold each shape that a
reader has to know; a local model then answers two of the questions for real.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inspect_ai import Epochs, Task
from inspect_ai import eval as run_eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    Content,
    ContentImage,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    ModelOutput,
    ModelUsage,
    get_model,
)
from inspect_ai.scorer import Score, Scorer, Target, match, mean, scorer
from inspect_ai.solver import TaskState, generate, system_message, user_message

# Braces doubled: `system_message` fills in a template.
SYSTEM = "Think step by step, then give the answer in \\boxed{{}}."
MODEL = "mockllm/smollm2-135m-maths"
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhf"
    "DwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
LONG_THOUGHT = "Let me add them one by one. " + " ".join(
    f"{total} + 2 = {total + 2}." for total in range(0, 40, 2)
)


@scorer(metrics=[mean()])
def closeness() -> Scorer:
    """A number in [0, 1]: how near the last number of the completion is to the target.

    NaN where the completion holds no number, so that the log holds a bare `NaN`; and it fails on
    one sample, which then has a response and an error.
    """

    async def score(state: TaskState, target: Target) -> Score:
        if state.metadata["says"] == "unscorable":
            raise ValueError("the scorer fails on this sample")
        numbers = re.findall(r"\d+", state.output.completion)
        if not numbers:
            return Score(value=float("nan"))
        distance = abs(int(numbers[-1]) - int(target[0]))
        return Score(value=1.0 / (1.0 + distance), answer=numbers[-1])

    return score


def samples() -> list[Sample]:
    """One sample per shape of input; `metadata["says"]` picks what the mock model answers."""
    return [
        Sample(
            id="plain",
            input="What is 2 + 5?",
            target="7",
            metadata={"says": "text", "difficulty": "easy", "subject": "sums"},
        ),
        Sample(
            id="reasoned",
            input="Add twenty twos.",
            target="40",
            metadata={"says": "reasoning", "difficulty": "hard", "subject": "sums"},
        ),
        Sample(
            id="turns",
            input=[
                ChatMessageSystem(content="You are terse."),
                ChatMessageUser(content="What is 4 + 9?"),
                ChatMessageAssistant(content="13"),
                ChatMessageUser(content="And minus 3?"),
            ],
            target=["10", "ten"],
            metadata={"says": "tagged", "difficulty": "hard", "subject": "sums"},
        ),
        Sample(
            id=4,
            input="Count upwards from 1. " + "Do not stop early. " * 8,
            target="99",
            metadata={"says": "cut", "difficulty": "easy", "subject": "counting"},
        ),
        Sample(
            id="pictured",
            input=[
                ChatMessageUser(
                    content=[
                        ContentText(text="How many dots are in the picture?"),
                        ContentImage(image=PIXEL),
                    ]
                )
            ],
            target="1",
            metadata={"says": "two_choices", "difficulty": "easy", "subject": "counting"},
        ),
        Sample(
            id="unscored",
            input="What is 3 + 3?",
            target="6",
            metadata={"says": "unscorable", "difficulty": "easy", "subject": "sums"},
        ),
        Sample(
            id="broken",
            input="What is 1 + 1?",
            target="2",
            metadata={"says": "error", "difficulty": "easy", "subject": "sums"},
        ),
    ]


def _choice(content: str | list[Content], stop_reason: Any) -> ChatCompletionChoice:
    message = ChatMessageAssistant(content=content, model="smollm2-135m-maths", source="generate")
    return ChatCompletionChoice(message=message, stop_reason=stop_reason)


def _answers() -> dict[str, Callable[[], list[ChatCompletionChoice]]]:
    return {
        "What is 2 + 5?": lambda: [_choice("2 + 5 = 7, so \\boxed{7}", "stop")],
        "Add twenty twos.": lambda: [
            _choice(
                [ContentReasoning(reasoning=LONG_THOUGHT), ContentText(text="\\boxed{40}")], "stop"
            )
        ],
        "What is 3 + 3?": lambda: [_choice("\\boxed{6}", "stop")],
        "And minus 3?": lambda: [
            _choice("<think>\n13 - 3 = 10. Hmm, yes.\n</think>\n\n\\boxed{11}", "stop")
        ],
        "Count upwards": lambda: [_choice("One, two, three, four, five,", "max_tokens")],
        "How many dots": lambda: [
            _choice("There is 1", "stop"),
            _choice("I see 2", "content_filter"),
        ],
    }


def mock_output(messages: list[ChatMessage], *_: Any) -> ModelOutput:
    """What the mock model answers, chosen by the last user message; one question fails."""
    question = [message.text for message in messages if message.role == "user"][-1]
    for start, make in _answers().items():
        if question.startswith(start):
            # Without a usage the mock counts tokens with an encoding that it fetches.
            usage = ModelUsage(input_tokens=40, output_tokens=20, total_tokens=60)
            return ModelOutput(model="smollm2-135m-maths", choices=make(), usage=usage)
    raise RuntimeError("the mock model fails on this question")


def shapes_task(count: int | None) -> Task:
    """The first `count` shapes, two epochs, a letter and a number as scores."""
    return Task(
        name="shapes",
        dataset=MemoryDataset(samples()[:count], name="shapes"),
        solver=[system_message(SYSTEM), generate()],
        scorer=[match(location="any", numeric=True), closeness()],
        epochs=Epochs(2, "mean"),
        config=GenerateConfig(temperature=0.7, top_p=0.95, max_tokens=64),
        fail_on_error=False,
    )


def local_task() -> Task:
    """Two questions asked for real, each with a second turn; answers are cut at 32 tokens."""
    return Task(
        name="local",
        dataset=MemoryDataset([samples()[0], samples()[2]], name="local"),
        solver=[system_message(SYSTEM), generate(), user_message("Are you sure?"), generate()],
        scorer=match(location="any", numeric=True),
        config=GenerateConfig(max_tokens=32, seed=1),
    )


def run_inspect(model_folder: str, into: Path) -> None:
    """Writes three logs into `into`: `.eval` and `.json` by the mock, `.eval` by the model."""
    # The .json log is the larger by far, so it gets fewer samples.
    for log_format, count in (("eval", None), ("json", 4)):
        mock = get_model(MODEL, custom_outputs=mock_output, memoize=False)
        _run(shapes_task(count), mock, into / f"mock_{log_format}", log_format=log_format)
    local = get_model(f"hf/{model_folder}", memoize=False, device="cpu")
    _run(local_task(), local, into / "hf_eval", temperature=1.0, top_k=20)


def _run(task: Task, model: Any, folder: Path, **options: Any) -> None:
    (log,) = run_eval(
        task,
        model=model,
        log_dir=str(folder),
        display="none",
        max_samples=1,
        max_connections=1,
        **options,
    )
    if log.status != "success":
        raise SystemExit(f"inspect_ai ended with {log.status}: {log.error}")
