"""Writes the golden logs under `logs/` by really running the tools that users' logs come from.

Run with Python 3.11.7, torch 2.13.0 (CPU), transformers 5.23.0, lm_eval 0.4.13, inspect_ai 0.3.285,
datasets 5.2.0 and pyarrow 26.0.1, in an environment of its own: lm_eval is no part of the project.
`make demo` makes the model, SmolLM2-135M-Instruct with its adapter for maths merged.

    python -m venv /path/to/venv
    /path/to/venv/bin/pip install torch==2.13.0
    /path/to/venv/bin/pip install 'lm_eval[hf]==0.4.13' transformers==5.23.0 datasets accelerate
    /path/to/venv/bin/pip install inspect_ai==0.3.285
    /path/to/venv/bin/python tests/golden/make_logs.py [PART…] [--model FOLDER]

Parts: lm_eval, inspect, batch, chat, hub; all of them by default, about ten minutes on two cores.

*Real*: `lm_eval/` and `inspect/`. *Hand-made*: `chat/` and `hub/` (the latter saved by datasets).
*Half*: `batch/` holds texts that the model wrote, in a shape written by hand after OpenAI's batch
documentation and vLLM's protocol classes; vLLM itself needs hardware that was not there.

Rewritten before a log is kept, because it names the machine or changes at every run: folders and
the host name everywhere; of lm_eval, `pretty_env_info`, git hashes, times, and the date in file
names; of inspect_ai, tracebacks, of which the last line is kept, and the names of the files.
Members of an `.eval` keep their order and their compression. Nothing else is touched.
"""

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LOGS = HERE / "logs"
MODEL = HERE.parents[1] / "cache" / "models" / "smollm2-135m-maths"
DATE = "2000-01-01T00-00-00.000000"
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
SYSTEM = "Think step by step, then give the answer in \\boxed{}."
REMOVED = "removed"

# What lm_eval writes about the machine and the hour.
LM_EVAL_REWRITTEN = {
    "pretty_env_info": REMOVED,
    "git_hash": None,
    "upper_git_hash": None,
    "date": 0.0,
    "total_evaluation_time_seconds": "0.0",
}


class CannedAnswers(BaseHTTPRequestHandler):
    """A chat completions server on the loopback address, for lm_eval's API models."""

    def do_POST(self) -> None:
        """Answers every question alike."""
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"role": "assistant", "content": "I think it is \\boxed{7}"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = json.dumps({"object": "chat.completion", "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def scrub_text(text: str) -> str:
    """Without this machine's folders, its host name and the port of our own server."""
    scratch = str(Path.cwd())
    for folder in (scratch, str(HERE.parents[1]), sys.prefix, sys.base_prefix, str(Path.home())):
        text = text.replace(folder, ".")
    text = re.sub(r"http://127\.0\.0\.1:\d+", "http://localhost:8000", text)
    return re.sub(rf"\b{re.escape(socket.gethostname())}\b", "host", text)


def rewrite(value: Any, change: Callable[[str, Any], Any]) -> Any:
    """`change(key, value)` applied to every item of every object, inside out."""
    if isinstance(value, dict):
        return {key: change(key, rewrite(item, change)) for key, item in value.items()}
    if isinstance(value, list):
        return [rewrite(item, change) for item in value]
    return value


def _lm_eval_value(key: str, value: Any) -> Any:
    return LM_EVAL_REWRITTEN.get(key, value)


def _last_line(key: str, value: Any) -> Any:
    if key in ("traceback", "traceback_ansi"):
        return value.strip().splitlines()[-1].removeprefix("  | ")
    return value


def run_lm_eval(name: str, model: list[str], tasks: list[str], *more: str) -> None:
    """One run of the harness, its samples and results kept under `logs/lm_eval/<name>`."""
    shutil.copytree(HERE / "lm_eval_tasks", "lm_eval_tasks", dirs_exist_ok=True)
    command = [sys.executable, "-m", "lm_eval", "run", "--model", *model, "--tasks", *tasks]
    command += ["--include_path", "lm_eval_tasks", "--output_path", f"out/{name}", "--log_samples"]
    subprocess.run([*command, *more], check=True)
    target = LOGS / "lm_eval" / name
    shutil.rmtree(target, ignore_errors=True)
    for made in sorted(Path("out", name).rglob("*.json*")):
        kept = (
            target / made.parent.name / re.sub(r"_\d{4}-[\dT.-]+(?=\.json)", f"_{DATE}", made.name)
        )
        kept.parent.mkdir(parents=True, exist_ok=True)
        text = scrub_text(made.read_text(encoding="utf-8"))
        if made.suffix == ".json":
            text = json.dumps(
                rewrite(json.loads(text), _lm_eval_value), indent=2, ensure_ascii=False
            )
        kept.write_text(text, encoding="utf-8")


def make_lm_eval(model: str) -> None:
    """Plain prompts, a chat template, several texts a question, and an API model."""
    local = ["hf", "--model_args", f"pretrained={model},dtype=float32"]
    on_cpu = ["--device", "cpu", "--batch_size", "5"]
    chat = ["--apply_chat_template", "--system_instruction", SYSTEM]
    run_lm_eval("plain", local, ["sums", "parity"], *on_cpu)
    run_lm_eval("chat", local, ["sums"], *on_cpu, *chat)
    cut = [*local[:2], local[2] + ",think_end_token=</think>"]
    run_lm_eval("repeated", cut, ["sums_repeated"], *on_cpu, *chat, "--limit", "3")
    server = ThreadingHTTPServer(("127.0.0.1", 0), CannedAnswers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1/chat/completions"
    api = [
        "local-chat-completions",
        "--model_args",
        f"model=org/{model},base_url={url},max_retries=1",
    ]
    run_lm_eval("api", api, ["sums_api"], "--apply_chat_template", "--limit", "2")
    server.shutdown()


def _scrub_eval(made: Path, kept: Path) -> None:
    """Rewrites every member of an `.eval`, which is a zip of JSON files packed with zstd."""
    import zipfile_zstd  # noqa: F401  (teaches zipfile the method that inspect_ai uses)

    with zipfile.ZipFile(made) as source, zipfile.ZipFile(kept, "w") as target:
        for member in source.infolist():
            text = _scrub_inspect(source.read(member).decode())
            plain = zipfile.ZipInfo(member.filename)
            target.writestr(plain, text, compress_type=member.compress_type)


def _scrub_inspect(text: str, indent: int | None = None) -> str:
    value = rewrite(json.loads(text), _last_line)
    return scrub_text(json.dumps(value, ensure_ascii=False, indent=indent))


def make_inspect(model: str) -> None:
    """Two logs by the mock model and one by the local one."""
    import inspect_logs

    inspect_logs.run_inspect(model, Path("inspect"))
    folder = LOGS / "inspect"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for made in sorted(Path("inspect").rglob("*.eval")):
        _scrub_eval(made, folder / f"{made.parent.name.removesuffix('_eval')}.eval")
    (made,) = Path("inspect").rglob("*.json")
    text = _scrub_inspect(made.read_text(encoding="utf-8"), indent=2)
    (folder / "mock.json").write_text(text, encoding="utf-8")


def make_batch(model: str) -> None:
    """A batch's requests and answers."""
    import hand_made

    hand_made.write_batch(model, LOGS / "batch")


def make_chat(_model: str) -> None:
    """Chat logs and what ml-ssd trains on."""
    import hand_made

    hand_made.write_chat(LOGS / "chat")
    hand_made.write_ml_ssd(LOGS / "chat")


def make_hub(_model: str) -> None:
    """A saved dataset and a Parquet file."""
    import hand_made

    shutil.rmtree(LOGS / "hub", ignore_errors=True)
    hand_made.write_hub(LOGS / "hub")


PARTS: dict[str, Callable[[str], None]] = {
    "lm_eval": make_lm_eval,
    "inspect": make_inspect,
    "batch": make_batch,
    "chat": make_chat,
    "hub": make_hub,
}


def main() -> None:
    """Makes the parts that were asked for, in a scratch folder outside any checkout."""
    parser = argparse.ArgumentParser(description="Write the golden logs.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--model", type=Path, default=MODEL)
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.parts) - set(PARTS))
    if unknown:
        parser.error(f"no part named {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    if not (arguments.model / "config.json").exists():
        parser.error(f"no model in {arguments.model}; `make demo SERVE=no` makes one")
    os.environ.update(OFFLINE)
    with tempfile.TemporaryDirectory() as scratch:
        # A relative name, so that the tools write no folder of this machine.
        Path(scratch, MODEL.name).symlink_to(arguments.model.resolve())
        os.chdir(scratch)
        os.environ["HF_HOME"] = str(Path(scratch, "huggingface"))
        for part in arguments.parts or PARTS:
            PARTS[part](MODEL.name)
        os.chdir(HERE)


if __name__ == "__main__":
    main()
