"""Commands about this machine: dashboard, doctor."""

import os
import sys
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from probing.cli.console import print_table
from probing.settings import require

PAGE = "streamlit_app.py"
REPOSITORY = Path(__file__).resolve().parents[2]


def dashboard(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN…]", help="Runs to show.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port on the loopback address.")] = 8501,
) -> None:
    """Serve the dashboard; without RUN it lists the runs in cache/."""
    found = [folder for folder in (Path.cwd(), REPOSITORY) if (folder / PAGE).exists()]
    require(bool(found), f"{PAGE} lies in the repository; start this in a clone", str(Path.cwd()))
    places = [run if "://" in run else str(Path(run).resolve()) for run in runs or []]
    command = [sys.executable, "-m", "streamlit", "run", PAGE, "--server.port", str(port)]
    os.chdir(found[0])  # streamlit reads .streamlit/config.toml of the folder it starts in
    os.execv(sys.executable, [*command, "--", *places])


def doctor() -> None:
    """Say what this machine has: packages, device, disk, runs, and what each is needed for."""
    from probing.doctor import findings

    print_table(pd.DataFrame(findings(), columns=["what", "found", "needed for"]))
