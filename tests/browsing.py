"""A served dashboard, a real browser, and what the store says about what a page shows."""

import dataclasses
import functools
import io
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd
import pytest
from pages_run import PagesRun, write_pages_run
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    expect,
    sync_playwright,
)

from probing.reporting import display, filters, tables
from probing.reporting.contrasts import COMPARISON
from probing.reporting.drifting import DriftAsked, stands_beside
from probing.reporting.filters import Average, Filters, Weighting
from probing.settings import Decoding, KindRule
from probing.store.reader import open_run
from probing.vocabulary import Stratum

ROOT = Path(__file__).parent.parent
BUNDLED = ROOT / "cache" / "bundled.zarr"
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
DECODING, RULE, FILTERS = Decoding(), KindRule(), Filters()
TABLES = {"overview": 0, "list": 0, "facts": 1, "example": 2, "own": 0, "top": 1, "siblings": 2}
"""Place of a table on its page."""
WIDTH, HEIGHT = 1400, 1000
PATIENCE_MS = 120_000
expect.set_options(timeout=PATIENCE_MS)


@dataclasses.dataclass(frozen=True)
class View:
    """What the sidebar says."""

    run: str = "pages.zarr"
    other: str = "ssd"
    control: str | None = "control"
    decoding: Decoding = DECODING
    kind_decoding: Decoding = DECODING
    rule: KindRule = RULE
    kept: Filters = FILTERS
    average: Average = Average.POSITION


@dataclasses.dataclass
class Site:
    """A served dashboard and a browser; `foreign` and `complaints` fill while pages are used."""

    address: str
    runs: dict[str, PagesRun]
    browser: Browser
    foreign: list[str] = dataclasses.field(default_factory=list)
    complaints: list[str] = dataclasses.field(default_factory=list)

    def visit(self, query: str = "", *, scheme: str = "light", place: str = "") -> Page:
        """A page in a fresh profile, drawn. `place` is its path."""
        context: BrowserContext = self.browser.new_context(
            viewport={"width": WIDTH, "height": HEIGHT},
            color_scheme="dark" if scheme == "dark" else "light",
            accept_downloads=True,
        )
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("request", lambda request: self._note(request.url))
        page.on("websocket", lambda socket_: self._note(socket_.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog {dialog.message}"))
        page.on("console", self._hear)
        page.goto(f"{self.address}/{place}?{query}")
        settle(page)
        return page

    def _hear(self, message: ConsoleMessage) -> None:
        # Opened at a page's own path, Streamlit looks for its server below that path first.
        looking = "/_stcore/" in message.location["url"]
        if message.type == "error" and not looking:
            self.complaints.append(message.text)

    def _note(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"data", "blob"} and parts.netloc != urlsplit(self.address).netloc:
            self.foreign.append(url)


IDLE = """
() => {
    const app = document.querySelector('[data-testid="stApp"]');
    const idle = app?.dataset.testScriptState === 'notRunning'
        && document.querySelector('[data-testid="stMain"] h1')
        && !document.querySelector('[data-stale="true"], [data-testid="stSkeleton"]');
    const now = performance.now();
    const drawn = document.body.innerText;
    if (!idle || drawn !== window.drawn) window.busyAt = now;
    window.drawn = drawn;
    window.busyAt ??= now;
    return now - window.busyAt > 600;
}
"""
"""Drawn, and at rest for a while: a change reaches the server after a moment."""


def settle(page: Page) -> None:
    """Wait until the script has run and the page has drawn what it made."""
    page.evaluate("window.busyAt = undefined")
    page.wait_for_function(IDLE, timeout=PATIENCE_MS)


@contextmanager
def opened_site(folder: Path) -> Iterator[Site]:
    """Two runs and the bundled one, served, with a browser."""
    runs = {
        "pages.zarr": write_pages_run(folder / "pages.zarr"),
        "small.zarr": write_pages_run(folder / "small.zarr", problems=6),
    }
    with served(runs, folder / "log.txt") as address, sync_playwright() as playwright:
        path = str(CHROMIUM) if CHROMIUM.exists() else None
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield Site(address=address, runs=runs, browser=browser)
        browser.close()


@contextmanager
def served(
    runs: dict[str, PagesRun],
    log: Path,
    *,
    script: str = "streamlit_app.py",
    port: int | None = None,
    options: tuple[str, ...] = (),
    variables: dict[str, str] | None = None,
    faults: bool = False,
) -> Iterator[str]:
    """The address of a dashboard over these runs, the bundled one last.

    `script` is what is served, `options` are Streamlit's, `variables` go to the environment,
    `faults` says that its log may tell of exceptions.
    """
    port = port or free_port()
    command = [sys.executable, "-m", "streamlit", "run", script]
    shown = [*(str(run.path) for run in runs.values()), *([str(BUNDLED)] * BUNDLED.exists())]
    with (
        log.open("wb") as out,
        subprocess.Popen(
            [*command, "--server.port", str(port), *options, "--", *shown],
            cwd=ROOT,
            env={**os.environ, **(variables or {})},
            stdout=out,
            stderr=subprocess.STDOUT,
        ) as server,
    ):
        try:
            wait_for(f"http://127.0.0.1:{port}/_stcore/health", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(timeout=30)
    text = log.read_text(encoding="utf-8", errors="replace")
    assert faults or "Traceback" not in text, text
    assert "External URL" not in text, text


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:  # not listening yet, or listening and still loading
            assert server.poll() is None, log.read_text(encoding="utf-8", errors="replace")
            time.sleep(0.2)
    pytest.fail(f"no dashboard at {url}: {log.read_text(encoding='utf-8', errors='replace')}")


# Figures from the store


def compared(site: Site, view: View) -> dict[str, pd.DataFrame]:
    return _compared(
        site.runs[view.run].path,
        view.other,
        view.control,
        view.decoding,
        view.rule,
        view.kind_decoding,
    )


@functools.cache
def _compared(
    path: Path,
    other: str,
    control: str | None,
    decoding: Decoding,
    rule: KindRule,
    kind_decoding: Decoding,
) -> dict[str, pd.DataFrame]:
    return tables.all_comparisons(
        open_run(str(path)),
        other=other,
        control=control,
        decoding=decoding,
        rule=rule,
        kind_decoding=kind_decoding,
    )


def kept_positions(site: Site, view: View) -> pd.DataFrame:
    return filters.keep(compared(site, view)[view.other], filters=view.kept)


def expected_deltas(
    site: Site, view: View, *, by: tuple[str, ...] = (Stratum.KIND,)
) -> pd.DataFrame:
    weighting = Weighting(selector=view.kept.selector, average=view.average)
    table = tables.delta_tables(compared(site, view), by=by, filters=view.kept, weighting=weighting)
    if not stands_beside(by):
        return table
    null = tables.drift_null(
        open_run(str(site.runs[view.run].path)),
        DriftAsked(
            other=view.other,
            control=view.control,
            decoding=view.decoding,
            rule=view.rule,
            kind_decoding=view.kind_decoding,
            filters=view.kept,
            weighting=weighting,
        ),
    )
    return tables.with_drift(table, null, assignment=view.kept.assignment)


# Figures from the page


def downloaded(page: Page, key: str) -> str:
    with page.expect_download() as waiting:
        page.locator(f".st-key-{key} button:visible").click()
    return Path(waiting.value.path()).read_text(encoding="utf-8")


def parsed(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""])


def cells(page: Page, name: str) -> list[list[str]]:
    """What the drawn part of a table says: the grid keeps it, unrounded, for screen readers."""
    table = page.get_by_test_id("stDataFrame").nth(TABLES[name])
    table.scroll_into_view_if_needed()
    rows = table.locator("tbody [role=row]")
    rows.first.wait_for(state="attached")
    return [
        [cell.strip() for cell in row.locator("[role=gridcell]").all_text_contents()]
        for row in rows.all()
    ]


def check(site: Site, page: Page, view: View) -> None:
    """Counts, table and download are those of the store under this view."""
    kept = filters.count(kept_positions(site, view))
    values = page.get_by_test_id("stMetricValue").all_text_contents()
    assert [value.strip() for value in values[:3]] == [
        f"{kept.positions:,}",
        f"{kept.carriers:,}",
        f"{kept.problems:,}",
    ]
    table = expected_deltas(site, view)
    found = parsed(downloaded(page, "overview_csv"))
    assert found["kind"].tolist() == table["kind"].tolist()
    assert found["quantity"].tolist() == table["quantity"].tolist()
    assert found[COMPARISON].tolist() == table[COMPARISON].tolist()
    for name in (
        "baseline", "other", "delta", "low", "high", "null", "null_drift", "positions", "problems",
        "missing",
    ):  # fmt: skip
        pd.testing.assert_series_equal(
            found[name], table[name], check_dtype=False, rtol=1e-9, atol=1e-12, obj=name
        )
    shown = display.labelled_deltas(table, by=[Stratum.KIND])
    for drawn, row in zip(cells(page, "overview"), shown.to_dict("records"), strict=False):
        # Columns beyond the edge are not drawn.
        cell = dict(zip(shown.columns, drawn, strict=False))
        assert (cell["Kind"], cell["Comparison"]) == (row["Kind"], row["Comparison"])
        for name in ("Delta", "Null", "Null: drift"):
            assert float(cell[name] or "nan") == pytest.approx(row[name], nan_ok=True)
        assert int(cell["Positions"]) == row["Positions"]


def context(page: Page) -> Locator:
    """The text around the example's token."""
    return page.locator(".st-key-example_context code")


# Controls


def choose(page: Page, key: str, label: str) -> None:
    """Pick from a list: by typing, as its options are drawn only while it is open."""
    box = page.locator(f".st-key-{key} input").first
    box.click()
    box.fill(label)
    page.get_by_role("option", name=label).first.click()
    settle(page)


def press(page: Page, key: str, label: str) -> None:
    page.locator(f".st-key-{key} [role] button:visible", has_text=label).first.click()
    settle(page)


def switch(page: Page, key: str) -> None:
    page.locator(f".st-key-{key} label").first.click()
    settle(page)


def enter(page: Page, key: str, value: str) -> None:
    box = page.locator(f".st-key-{key} input").first
    box.fill(value)
    box.press("Enter")
    settle(page)


def slide(page: Page, key: str, steps: int) -> None:
    thumb = page.locator(f".st-key-{key} input[type=range]").first
    for _ in range(abs(steps)):
        thumb.press("ArrowRight" if steps > 0 else "ArrowLeft")
    settle(page)
