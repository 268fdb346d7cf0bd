"""A program in an interpreter of its own: nothing is imported before it, nothing checks types."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def in_new_interpreter(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
