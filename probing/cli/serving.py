"""Commands about this machine: dashboard, doctor."""

import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from probing.cli.console import print_table
from probing.errors import PortTaken
from probing.settings import require

PAGE = "streamlit_app.py"
LOOPBACK = "127.0.0.1"
"""Where the page listens, as .streamlit/config.toml says."""

PORTS = range(1, 65536)
REPOSITORY = Path(__file__).resolve().parents[2]


def dashboard(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN…]", help="Runs to show.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port on the loopback address.")] = 8501,
) -> None:
    """Serve the dashboard; without RUN it lists the runs in cache/."""
    found = [folder for folder in (Path.cwd(), REPOSITORY) if (folder / PAGE).exists()]
    require(port in PORTS, f"port must be {PORTS[0]} to {PORTS[-1]}", port)
    require(bool(found), f"{PAGE} lies in the repository; start this in a clone", str(Path.cwd()))
    for run in runs or []:
        _require_run(run)
    _require_free(port)
    places = [run if "://" in run else str(Path(run).resolve()) for run in runs or []]
    command = [sys.executable, "-m", "streamlit", "run", PAGE, "--server.port", str(port)]
    os.chdir(found[0])  # streamlit reads .streamlit/config.toml of the folder it starts in
    os.execv(sys.executable, [*command, "--", *places])


def _require_run(location: str) -> None:
    """Refuse what holds no run; one that is being scored is a run from its first moment.

    Raises:
        NotARun, NewerSchema, CorruptRun: as `summary` would.
    """
    from probing.store.opening import read_layout
    from probing.store.place import place_of

    read_layout(place_of(location))


def _require_free(port: int) -> None:
    """Listen on the port for a moment, as the page will.

    Raises:
        PortTaken: it cannot be had.
    """
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((LOOPBACK, port))
            trial.listen()
        except OSError as error:
            raise PortTaken(
                f"the dashboard cannot listen on port {port} ({error.strerror}); choose another: "
                "`probing dashboard --port N`"
            ) from error


def doctor() -> None:
    """Say what this machine has: packages, device, disk, runs, and what each is needed for."""
    from probing.doctor import findings

    print_table(pd.DataFrame(findings(), columns=["what", "found", "needed for"]))
