"""How quick the dashboard is on a run of a million positions and three models, in a real browser.

The run is made once (`benchmarks.million`). A fresh server and a fresh browser then do what people
do; a time ends when the script has run and the page has drawn what it made and stands still.

  cold open        from the address to the drawn overview, on a server that nobody asked before
  filter           a label pressed on the overview
  new temperature  a step of the slider, to a temperature that nobody asked for before
  example          the next position of a ranking
  sessions         so many at once, websocket clients but for one browser; each thinks between two
                   changes of its filters

    python -m benchmarks.dashboard [--positions N] [--problems P] [--sessions S] [--json F]
"""

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import websockets
from playwright.sync_api import Page, sync_playwright
from streamlit.proto.BackMsg_pb2 import BackMsg  # noqa: TID251 (what a session speaks)
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg  # noqa: TID251

from benchmarks import common
from benchmarks.million import Size, made_run

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_S = 600
REST_MS = 250
"""For so long nothing may change on a page that is settled; it is taken off its time."""

LABELS = (
    ("correct", "wrong"),
    ("generator", "ssd"),
    ("kind", "lock-like"),
    ("kind", "fork-like"),
    ("generator", "baseline"),
    ("correct", "wrong"),
)
"""Filters and their labels that are pressed one after the other; once more takes one off."""

CHANGES = 5
"""Filters that each session changes."""

THINKING_S = (4.0, 10.0)

WATCHED = """
window.busyAt = 0;
new MutationObserver(() => { window.busyAt = performance.now(); }).observe(
    document, { subtree: true, childList: true, characterData: true, attributes: true }
);
new PerformanceObserver((list) => {
    for (const task of list.getEntries())
        window.busyAt = Math.max(window.busyAt, task.startTime + task.duration);
}).observe({ entryTypes: ['longtask'] });
"""
"""When anything last changed on a page, or its thread was last busy for 50 ms: drawing is."""

SETTLED = """
(rest) => {
    const app = document.querySelector('[data-testid="stApp"]');
    const idle = app?.dataset.testScriptState === 'notRunning'
        && document.querySelector('[data-testid="stMain"] h1')
        && !document.querySelector('[data-stale="true"], [data-testid="stSkeleton"]');
    if (!idle) window.busyAt = performance.now();
    const still = performance.now() - window.busyAt;
    return still > rest ? still : false;
}
"""


@contextmanager
def served(run: Path, log: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A fresh server over the run: its address and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "streamlit_app.py"]
    command += ["--server.port", str(port), "--", str(run)]
    with (
        log.open("wb") as out,
        subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as server,
    ):
        try:
            _wait_for(f"http://127.0.0.1:{port}/_stcore/health")
            yield f"127.0.0.1:{port}", psutil.Process(server.pid)
        finally:
            server.terminate()


def _wait_for(url: str) -> None:
    for _ in range(300):
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"no dashboard at {url}")


def settled(page: Page, act: Callable[[], Any]) -> float:
    """Seconds from an act until the page stands still."""
    begin = time.perf_counter()
    act()
    page.evaluate("() => { window.busyAt = performance.now(); }")
    handle = page.wait_for_function(SETTLED, arg=REST_MS, timeout=PATIENCE_S * 1000, polling=20)
    rest = float(handle.json_value()) / 1000
    return time.perf_counter() - begin - rest


def press(page: Page, key: str, label: str) -> Callable[[], None]:
    """Presses one label of a filter."""
    found = page.locator(f".st-key-{key} [role] button:visible", has_text=label).first
    return lambda: found.click()


def pages(address: str) -> dict[str, float]:
    """What one person meets."""
    with sync_playwright() as playwright:
        path = str(CHROMIUM) if CHROMIUM.exists() else None
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        page = browser.new_context(viewport={"width": 1400, "height": 1000}).new_page()
        page.set_default_timeout(PATIENCE_S * 1000)
        page.add_init_script(WATCHED)
        cold = settled(page, lambda: page.goto(f"http://{address}/"))
        print(f"cold open {cold:.2f} s", flush=True)
        filtered = [settled(page, press(page, *label)) for label in LABELS * 4]
        print("filters", " ".join(f"{each:.2f}" for each in filtered), flush=True)
        slider = page.locator(".st-key-temperature input[type=range]")
        warmer = [settled(page, lambda: slider.press("ArrowRight")) for _ in range(3)]
        print("temperatures", " ".join(f"{each:.2f}" for each in warmer), flush=True)
        back = settled(page, lambda: slider.press("ArrowLeft"))
        settled(page, lambda: page.get_by_role("link", name="Examples", exact=True).click())
        number = page.locator(".st-key-example input")
        examples = []
        for place in range(2, 14):
            number.fill(str(place))
            examples.append(settled(page, lambda: number.press("Enter")))
        print("examples", " ".join(f"{each:.2f}" for each in examples), flush=True)
        browser.close()
    return {
        "cold_open_s": cold,
        "filter_p50_s": float(np.median(filtered)),
        "filter_p95_s": float(np.quantile(filtered, 0.95)),
        "new_temperature_s": statistics.median(warmer),
        "old_temperature_s": back,
        "example_p50_s": statistics.median(examples),
    }


async def session(address: str, number: int) -> list[float]:
    """Seconds of each answer of one websocket client; raises where the script fails."""
    rng = np.random.default_rng(number)
    times: list[float] = []
    async with websockets.connect(
        f"ws://{address}/_stcore/stream", max_size=None, open_timeout=PATIENCE_S
    ) as connection:
        for _ in range(CHANGES):
            await asyncio.sleep(float(rng.uniform(*THINKING_S)))
            kind = rng.choice(["lock-like", "fork-like", "mixed", "diffuse"])
            query = f"kind={kind}&correct={rng.choice(('correct', 'wrong'))}"
            asked = BackMsg()
            asked.rerun_script.query_string = query
            begin = time.perf_counter()
            await connection.send(asked.SerializeToString())
            await _finished(connection)
            times.append(time.perf_counter() - begin)
    return times


async def _finished(connection: Any) -> None:
    """Read until the script has run."""
    while True:
        message = ForwardMsg()
        message.ParseFromString(await asyncio.wait_for(connection.recv(), PATIENCE_S))
        if message.WhichOneof("type") == "delta" and message.delta.new_element.HasField(
            "exception"
        ):
            raise RuntimeError(message.delta.new_element.exception.message)
        if message.WhichOneof("type") == "script_finished":
            return


async def crowd(address: str, count: int) -> tuple[list[float], int]:
    """The times of all sessions, and how many of them failed."""
    ended = await asyncio.gather(
        *(session(address, number) for number in range(count)), return_exceptions=True
    )
    failed = [one for one in ended if isinstance(one, BaseException)]
    for one in failed[:3]:
        print("failed:", repr(one), flush=True)
    return [each for one in ended if not isinstance(one, BaseException) for each in one], len(
        failed
    )


def peak_mb(server: psutil.Process) -> float:
    """The most memory that the server held."""
    for line in Path(f"/proc/{server.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1e3
    return float("nan")


def main() -> None:
    """Measure and print."""
    parser = common.parser(__doc__)
    parser.add_argument("--positions", type=int, default=1_000_000)
    parser.add_argument("--problems", type=int, default=1000)
    parser.add_argument("--sessions", type=int, default=30)
    asked = parser.parse_args()
    print(f"{common.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    path = common.CACHE / f"synthetic-{asked.positions}.zarr"
    made_run(path, Size(asked.positions, asked.problems))
    log = common.CACHE / "dashboard-benchmark.log"
    with served(path, log) as (address, server):
        found: dict[str, Any] = pages(address)
        found["sessions"] = asked.sessions
        times, errors = asyncio.run(crowd(address, asked.sessions))
        found["sessions_p95_s"] = float(np.quantile(times, 0.95)) if times else float("nan")
        found["sessions_p50_s"] = float(np.median(times)) if times else float("nan")
        found["errors"] = errors
        found["server_rss_mb"] = peak_mb(server)
    for name, value in found.items():
        print(f"{name:20} {value:.2f}" if isinstance(value, float) else f"{name:20} {value}")
    common.write_json(asked.json, found)


if __name__ == "__main__":
    main()
