"""A dashboard on a network: hostile addresses and names, hidden errors, its log, its calls."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from browsing import served, settle
from hosting import asked, everything, opened_browser
from pages_run import HOSTILE, THINGS, PagesRun, write_pages_run
from playwright.sync_api import Browser, Page, expect

from probing.dashboard.pages import FOLDER
from probing.reporting.text import line

pytestmark = pytest.mark.browser

WATCH = """
import os, sys

SEEN = ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname")

def watch(event, arguments):
    if event in SEEN:
        place = arguments[0] if event.startswith("socket.get") else arguments[1]
        host = place[0] if isinstance(place, tuple) else place
        if host not in ("127.0.0.1", "localhost", "::1", None) and not str(host).startswith("/"):
            with open(os.environ["WATCHED"], "a") as out:
                out.write(f"{event} {place}\\n")

open(os.environ["WATCHED"], "a").close()
sys.addaudithook(watch)
"""
"""Runs first in every Python process of the server: Python tells it of each call to a socket."""

ODD_NAME = 'x" page="none\nvisit user="root.zarr'


@dataclass
class Open:
    """A dashboard without signing in."""

    address: str
    browser: Browser
    log: Path
    watched: Path

    def visit(self, place: str) -> Page:
        page = self.browser.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(f"{self.address}/{place}")
        settle(page)
        return page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with opened_browser() as found:
        yield found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Open]:
    folder = tmp_path_factory.mktemp("open")
    run = write_pages_run(folder / "plain.zarr", problems=6)
    shutil.copytree(run.path, folder / ODD_NAME)
    (folder / "out.zarr").symlink_to("/etc")
    (folder / "nowhere.zarr").symlink_to(folder / "gone")
    (folder / "sitecustomize.py").write_text(WATCH)
    watched, log = folder / "watched.txt", folder / "log.txt"
    names = ("plain.zarr", ODD_NAME, "out.zarr", "nowhere.zarr")
    runs = {name: PagesRun(folder / name, run.logits, run.vocabulary) for name in names}
    paths = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    variables = {"PYTHONPATH": paths, "WATCHED": str(watched)}
    with served(runs, log, variables=variables) as address:
        yield Open(address, browser, log, watched)


def calm(page: Page) -> None:
    text = everything(page)
    assert "Traceback" not in text
    assert "root:" not in text
    expect(page.get_by_test_id("stException")).to_have_count(0)


PAGES = ("", *(path.stem for path in sorted(FOLDER.glob("[a-z]*.py")) if path.stem != "overview"))


def test_all_pages_are_visited_and_the_server_talks_to_nobody(site: Open) -> None:
    for place in PAGES:
        page = site.visit(place)
        page.locator("h1").wait_for()
        calm(page)
        page.close()
    assert site.watched.read_text() == ""


def test_the_watch_would_see_a_word_to_others(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    told = tmp_path / "told.txt"
    talk = "import socket; s = socket.socket(); s.settimeout(0.01); s.connect_ex(('192.0.2.1', 9))"
    subprocess.run(
        [sys.executable, "-c", talk],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "WATCHED": str(told)},
        check=False,
    )
    assert "192.0.2.1" in told.read_text()


HOSTILE_QUERIES = (
    "run=../../etc/passwd",
    "run=/etc/passwd",
    "run=file:///etc/passwd",
    "run=s3://other/run.zarr",
    "run=..%2F..%2Fplain.zarr",
    "run=%00",
    "run=%3Cscript%3Ealert(1)%3C/script%3E",
    f"run={'a' * 10_000}",
    "run=plain.zarr&run=/etc/passwd",
    "temperature=1e999",
    "temperature=-5",
    "temperature=nan",
    "top_k=99999999999999999999",
    "top_k=-1",
    "top_p=0",
    "top_p=inf",
    "other=nobody&control=nobody",
    "kind=none&event=none&assignment=none&preset=none",
    f"search={quote('(' * 9_000)}",
    "example=0&at=../../x:-1",
    "example=999999999999999999999",
    "unknown=1&__proto__=2",
)


@pytest.mark.parametrize("query", HOSTILE_QUERIES)
def test_a_hostile_address_opens_what_there_is(site: Open, query: str) -> None:
    page = site.visit(f"examples?{query}")
    page.locator("h1").wait_for()
    calm(page)
    shown = page.locator(".st-key-run input").first
    expect(shown).to_have_value("plain.zarr")
    page.close()


@pytest.mark.parametrize("name", ["out.zarr", "nowhere.zarr"])
def test_a_link_that_leads_to_no_run_is_a_sentence(site: Open, name: str) -> None:
    page = site.visit(f"?run={name}")
    expect(page.get_by_text("This run cannot be opened.")).to_be_visible()
    calm(page)
    page.close()


def test_the_health_of_the_server_is_one_word(site: Open) -> None:
    answer = asked(f"{site.address}/_stcore/health")
    assert (answer.status, answer.text) == (200, "ok")


LINE = re.compile(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ visit user="[^"]*" page="[^"]*" run="[^"]*"')


def test_each_page_view_is_one_line_and_no_name_forges_another(site: Open) -> None:
    before = len(visits(site))
    page = site.visit(f"deltas?run={quote(line(ODD_NAME))}&search=notinthelog")
    page.locator(".st-key-greedy label").first.click()
    settle(page)
    page.get_by_role("link", name="Methods", exact=True).click()
    page.locator("h1", has_text="Methods").wait_for()
    settle(page)
    page.close()
    new = visits(site)[before:]
    named = "x' page='none\\nvisit user='root.zarr"
    assert [view.partition(" ")[2] for view in new] == [
        f'visit user="-" page="{title}" run="{named}"' for title in ("Deltas", "Methods")
    ]
    log = site.log.read_text()
    assert all(LINE.fullmatch(view) for view in log.splitlines() if "visit" in view)
    assert "notinthelog" not in log
    assert not any(word in log for word in (*HOSTILE, *THINGS) if len(word) > 3)


def visits(site: Open) -> list[str]:
    return [view for view in site.log.read_text().splitlines() if "visit user=" in view]


FAULTY = """
import streamlit as st

from probing.dashboard import gate, guard

def page():
    st.title("Faulty")
    raise RuntimeError("words of a carrier")

if __name__ == "__main__":
    if gate.entered():
        st.navigation([st.Page(page, title="Faulty")], position="top").run()
else:
    app = st.App(__file__, middleware=guard.MIDDLEWARE)
"""


def test_an_exception_in_a_page_shows_nothing_of_itself(tmp_path: Path, browser: Browser) -> None:
    script, log = tmp_path / "faulty_page.py", tmp_path / "log.txt"
    script.write_text(FAULTY)
    with served({}, log, script=str(script), faults=True) as address:
        page = browser.new_page()
        page.goto(address)
        settle(page)
        page.get_by_test_id("stException").wait_for()
        text = everything(page)
        page.close()
    assert "words of a carrier" in log.read_text()
    for word in ("words of a carrier", "RuntimeError", "Traceback", "faulty_page"):
        assert word not in text
