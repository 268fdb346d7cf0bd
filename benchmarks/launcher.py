"""A process that imports everything once, then forks a real `probing` command whenever asked.

Importing torch and Transformers takes seconds; a fork takes milliseconds. So a command can be
started, and killed, hundreds of times. The parent runs no torch operation, since threads do not
survive a fork.

    with Launcher() as launcher:
        command = launcher.start("score", "run.toml", output=Path("said.txt"))
        os.kill(command.pid, signal.SIGKILL)
        assert command.wait() == -signal.SIGKILL
"""

import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NO_LIMIT = resource.RLIM_INFINITY
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Command:
    """A command under way, or ended."""

    pid: int
    launcher: "Launcher"

    def wait(self) -> int:
        """Its exit code, once it has ended; minus the signal's number if a signal ended it."""
        return int(self.launcher.ask({"wait": self.pid}))

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal. Until `wait` its process id stays its own, even when it has ended."""
        os.kill(self.pid, number)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        state = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2]
        return state.split()[0] not in "ZX"


class Launcher:
    """The process that forks; `threads` of torch in every command.

    Commands run in the repository's folder.
    """

    def __init__(self, *, threads: int = 1) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.launcher", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        )

    def __enter__(self) -> "Launcher":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def ask(self, question: dict[str, Any]) -> str:
        """One line to the process, one line back."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def start(
        self,
        *arguments: str,
        output: Path = Path(os.devnull),
        file_bytes: int = NO_LIMIT,
        user: int | None = None,
    ) -> Command:
        """Begin `probing ARGUMENTS…`.

        Args:
            arguments: Of the command line.
            output: What it prints is added to this file.
            file_bytes: The operating system refuses to let a file grow beyond this.
            user: It runs under this user's id.
        """
        options = {"output": str(output), "file_bytes": file_bytes, "user": user}
        return Command(int(self.ask({"start": arguments, **options})), self)


def serve(threads: int) -> None:
    """Answer questions until there are none: the launcher's own main loop."""
    import transformers.models.llama.modeling_llama  # noqa: F401

    import probing.cli
    import probing.scoring.run

    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            _, status = os.waitpid(asked["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            _become(asked, threads=threads)
            probing.cli.main()
            os._exit(0)
        print(pid, flush=True)


def _become(asked: dict[str, Any], *, threads: int) -> None:
    """Make the forked child the command that was asked for."""
    import torch

    sys.argv = ["probing", *asked["start"]]
    nothing = os.open(os.devnull, os.O_RDONLY)
    said = os.open(asked["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number, handle in ((0, nothing), (1, said), (2, said)):
        os.dup2(handle, number)
    torch.set_num_threads(threads)
    # Else the kernel would end the process; this way the write fails, as on a full disk.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (asked["file_bytes"], NO_LIMIT))
    if asked["user"] is not None:
        os.setgroups([])
        os.setgid(asked["user"])
        os.setuid(asked["user"])


if __name__ == "__main__":
    serve(int(sys.argv[1]))
