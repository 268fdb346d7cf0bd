"""The page in a real browser: every sidebar control, the figures it shows, what it downloads."""

import dataclasses
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
from pages_run import HOSTILE, PagesRun, write_pages_run
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from probing.reporting import display, filters, tables
from probing.reporting.examples import Order
from probing.reporting.filters import EVERY, Average, Filters, Weighting
from probing.settings import KIND_PRESETS, Decoding, KindRule
from probing.vocabulary import Assignment, Stratum

pytestmark = pytest.mark.browser

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
TABLES = ("deltas", "facts", "example")
"""Tables of the page, in their order."""
WIDTH, HEIGHT = 1400, 1000
PATIENCE_MS = 60_000


@dataclasses.dataclass(frozen=True)
class View:
    """What the sidebar says."""

    run: str = "pages.zarr"
    other: str = "ssd"
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

    def visit(self, query: str = "", *, scheme: str = "light") -> Page:
        """A page in a fresh profile, drawn."""
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
        page.on(
            "console",
            lambda message: (
                self.complaints.append(message.text) if message.type == "error" else None
            ),
        )
        page.goto(f"{self.address}/?{query}")
        settle(page)
        return page

    def _note(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"data", "blob"} and parts.netloc != urlsplit(self.address).netloc:
            self.foreign.append(url)


IDLE = """
() => {
    const app = document.querySelector('[data-testid="stApp"]');
    const idle = app?.dataset.testScriptState === 'notRunning'
        && document.querySelector('[data-testid="stMetric"]')
        && !document.querySelector('[data-stale="true"]');
    const now = performance.now();
    if (!idle) window.busyAt = now;
    window.busyAt ??= now;
    return now - window.busyAt > 600;
}
"""
"""Drawn, and at rest for a while: a change reaches the server after a moment."""


def settle(page: Page) -> None:
    """Wait until the script has run and the page has drawn what it made."""
    page.evaluate("window.busyAt = undefined")
    page.wait_for_function(IDLE, timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PagesRun]:
    folder = tmp_path_factory.mktemp("browser")
    return {
        "pages.zarr": write_pages_run(folder / "pages.zarr"),
        "small.zarr": write_pages_run(folder / "small.zarr", problems=6),
    }


@pytest.fixture(scope="module")
def address(runs: dict[str, PagesRun], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "streamlit_app.py"]
    shown = [*(str(run.path) for run in runs.values()), *([str(BUNDLED)] * BUNDLED.exists())]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with (
        log.open("wb") as out,
        subprocess.Popen(
            [*command, "--server.port", str(port), "--", *shown],
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
        ) as server,
    ):
        try:
            _wait_for(f"http://127.0.0.1:{port}/_stcore/health", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(timeout=30)
    text = log.read_text(encoding="utf-8", errors="replace")
    assert "Traceback" not in text, text
    assert "External URL" not in text, text


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            assert server.poll() is None, log.read_text(encoding="utf-8", errors="replace")
            time.sleep(0.2)
    pytest.fail(f"no dashboard at {url}: {log.read_text(encoding='utf-8', errors='replace')}")


@pytest.fixture(scope="module")
def site(address: str, runs: dict[str, PagesRun]) -> Iterator[Site]:
    with sync_playwright() as playwright:
        path = str(CHROMIUM) if CHROMIUM.exists() else None
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield Site(address=address, runs=runs, browser=browser)
        browser.close()


@pytest.fixture
def page(site: Site) -> Iterator[Page]:
    found = site.visit()
    yield found
    found.context.close()
    assert site.foreign == []
    assert site.complaints == []


# Figures from the store


def kept_positions(site: Site, view: View) -> pd.DataFrame:
    comparison = tables.comparison_table(
        site.runs[view.run].open(),
        other=view.other,
        decoding=view.decoding,
        rule=view.rule,
        kind_decoding=view.kind_decoding,
    )
    return filters.keep(comparison, filters=view.kept)


def expected_deltas(site: Site, view: View) -> pd.DataFrame:
    return tables.delta_table(
        kept_positions(site, view),
        by=[Stratum.KIND],
        assignment=view.kept.assignment,
        weighting=Weighting(selector=view.kept.selector, average=view.average),
    )


# Figures from the page


def downloaded(page: Page, key: str) -> str:
    with page.expect_download() as waiting:
        page.locator(f".st-key-{key} button:visible").click()
    return Path(waiting.value.path()).read_text(encoding="utf-8")


def parsed(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""])


def cells(page: Page, name: str) -> list[list[str]]:
    """What the drawn part of a table says: the grid keeps it, unrounded, for screen readers."""
    table = page.get_by_test_id("stDataFrame").nth(TABLES.index(name))
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
    found = parsed(downloaded(page, "deltas_csv"))
    assert found["kind"].tolist() == table["kind"].tolist()
    assert found["quantity"].tolist() == table["quantity"].tolist()
    for name in ("baseline", "other", "delta", "low", "high", "positions", "problems", "missing"):
        pd.testing.assert_series_equal(
            found[name], table[name], check_dtype=False, check_exact=True, obj=name
        )
    shown = display.shown_deltas(table).data
    for drawn, row in zip(cells(page, "deltas"), shown.to_dict("records"), strict=False):
        assert drawn[1] == row["Kind"]
        assert float(drawn[4]) == pytest.approx(row["Delta"], nan_ok=True)
        assert int(drawn[7]) == row["Positions"]


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


@dataclasses.dataclass(frozen=True)
class Move:
    """One control, how it is set, what the address then says, and what the page must show."""

    key: str
    act: Callable[[Page], None]
    address: str
    view: View


MOVES = [
    Move("run", lambda p: choose(p, "run", "small.zarr"), "small.zarr", View(run="small.zarr")),
    Move("other", lambda p: choose(p, "other", "control"), "control", View(other="control")),
    Move(
        "temperature",
        lambda p: slide(p, "temperature", 4),
        "1.2",
        View(decoding=Decoding(temperature=1.2)),
    ),
    Move(
        "greedy",
        lambda p: switch(p, "greedy"),
        "true",
        View(decoding=Decoding(temperature=0.0)),
    ),
    Move("top_k", lambda p: enter(p, "top_k", "6"), "6", View(decoding=Decoding(top_k=6))),
    Move("top_p", lambda p: enter(p, "top_p", "0.7"), "0.7", View(decoding=Decoding(top_p=0.7))),
    Move(
        "preset",
        lambda p: choose(p, "preset", "strict"),
        "strict",
        View(rule=KIND_PRESETS["strict"]),
    ),
    Move(
        "assignment",
        lambda p: press(p, "assignment", "other"),
        "other",
        View(kept=Filters(assignment=Assignment.OTHER)),
    ),
    Move(
        "selector",
        lambda p: choose(p, "selector", display.selector_label(EVERY)),
        display.selector_label(EVERY),
        View(kept=Filters(selector=EVERY)),
    ),
    Move(
        "kind",
        lambda p: press(p, "kind", "fork-like"),
        "fork-like",
        View(kept=Filters(kind=("fork-like",))),
    ),
    Move(
        "correct",
        lambda p: press(p, "correct", "wrong"),
        "wrong",
        View(kept=Filters(correct=("wrong",))),
    ),
    Move(
        "generator",
        lambda p: choose(p, "generator", "ssd"),
        "ssd",
        View(kept=Filters(generator=("ssd",))),
    ),
    Move(
        "average",
        lambda p: press(p, "average", "carrier"),
        "carrier",
        View(average=Average.CARRIER),
    ),
]


def test_the_page_opens_on_the_stores_figures(site: Site, page: Page) -> None:
    check(site, page, View())
    expect(page).to_have_title("Probing")


@pytest.mark.parametrize("move", MOVES, ids=[move.key for move in MOVES])
def test_a_control_sets_the_figures_and_the_address(site: Site, page: Page, move: Move) -> None:
    move.act(page)
    check(site, page, move.view)
    assert parse_qs(urlsplit(page.url).query) == {move.key: [move.address]}


def test_length_sets_the_figures(site: Site, page: Page) -> None:
    label = next(
        text
        for text in filters.options(kept_positions(site, View()), Stratum.LENGTH)
        if text.startswith("short")
    )
    press(page, "length", label)
    check(site, page, View(kept=Filters(length_bin=(label,))))


def test_kinds_can_follow_the_decoding(site: Site, page: Page) -> None:
    slide(page, "temperature", 10)
    hot = Decoding(temperature=1.5)
    check(site, page, View(decoding=hot))
    switch(page, "kinds_follow")
    check(site, page, View(decoding=hot, kind_decoding=hot))


def test_every_sidebar_control_is_tested(page: Page) -> None:
    sidebar = page.get_by_test_id("stSidebar")
    drawn = {
        name.removeprefix("st-key-")
        for classes in sidebar.locator("[class*=st-key-]").evaluate_all(
            "found => found.map(one => one.className)"
        )
        for name in classes.split()
        if name.startswith("st-key-")
    }
    assert drawn == {*(move.key for move in MOVES), "length", "kinds_follow"}


def test_the_address_brings_everything_back(site: Site, page: Page) -> None:
    choose(page, "other", "control")
    slide(page, "temperature", -4)
    press(page, "kind", "lock-like")
    press(page, "kind", "mixed")
    view = View(
        other="control",
        decoding=Decoding(temperature=0.8),
        kept=Filters(kind=("lock-like", "mixed")),
    )
    check(site, page, view)
    again = site.visit(urlsplit(page.url).query)
    check(site, again, view)
    again.context.close()


def test_an_example_downloads_as_it_is_shown(site: Site, page: Page) -> None:
    choose(page, "example_by", "Tail mass")
    enter(page, "example", "2")
    ranked = tables.ranked_positions(
        kept_positions(site, View()), by="tail_mass", order=Order.CHANGE
    )
    row = int(ranked.iloc[1]["row"])
    run = site.runs["pages.zarr"].open()
    table = tables.example_table(run, row, other="ssd", decoding=Decoding())
    found = parsed(downloaded(page, "example_csv"))
    for name in ("baseline_id", "other_id", "baseline_prob", "other_kept_prob"):
        assert found[name].tolist() == table[name].tolist()
    assert page.locator("[data-testid=stCode] code").first.text_content() == tables.shown_context(
        run, row
    )
    shown = display.shown_example(table).data.to_dict("records")
    for drawn, row_shown in zip(cells(page, "example"), shown, strict=True):
        assert drawn[1] == row_shown["Baseline token"].strip()
        assert float(drawn[5]) == pytest.approx(row_shown["Probability "])


def test_settings_download_says_what_was_set(site: Site, page: Page) -> None:
    press(page, "correct", "wrong")
    document = json.loads(downloaded(page, "deltas_settings"))
    assert document["run"]["fingerprint"] == site.runs["pages.zarr"].open().fingerprint
    assert document["filters"]["correct"] == ["wrong"]
    assert document["decoding"]["top_k"] == Decoding().top_k


def test_hostile_text_is_text(site: Site, page: Page) -> None:
    view = View(kept=Filters(selector=EVERY))
    choose(page, "selector", display.selector_label(EVERY))
    choose(page, "example_order", Order.RANDOM.value)
    ranked = tables.ranked_positions(kept_positions(site, view), by="top1_prob", order=Order.RANDOM)
    run = site.runs["pages.zarr"].open()
    contexts = [tables.shown_context(run, row) for row in ranked["row"]]
    for word in [word for word in HOSTILE if word.startswith(("<", "!["))]:
        place = next(i for i, context in enumerate(contexts, start=1) if word in context)
        enter(page, "example", str(place))
        shown = page.locator("[data-testid=stCode] code").first
        expect(shown).to_contain_text(word)
        assert shown.locator("img, script, a").count() == 0
        assert page.locator("[data-testid=stMain] img").count() == 0


def test_nothing_left_is_said(page: Page) -> None:
    press(page, "kind", "mixed")
    choose(page, "selector", display.selector_label("think_close"))
    press(page, "correct", "unknown")
    choose(page, "generator", "ssd")
    expect(page.get_by_text("No position passes these filters")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screenshots(site: Site, scheme: str, tmp_path: Path) -> None:
    folder = Path(os.environ.get("PROBING_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    page = site.visit(f"run={BUNDLED.name}" if BUNDLED.exists() else "", scheme=scheme)
    page.get_by_test_id("stVegaLiteChart").last.locator("svg, canvas").first.wait_for()
    tall = page.evaluate(
        "Math.max(...['stMain', 'stSidebarContent'].map("
        "name => document.querySelector(`[data-testid=${name}]`).scrollHeight))"
    )
    page.set_viewport_size({"width": WIDTH, "height": tall})
    page.wait_for_timeout(1500)
    picture = folder / f"overview-{scheme}.png"
    page.screenshot(path=picture)
    background = page.get_by_test_id("stApp").evaluate(
        "one => getComputedStyle(one).backgroundColor"
    )
    page.context.close()
    assert picture.stat().st_size > 50_000
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 28)"}[scheme]
