"""A hosted dashboard: a provider, secrets, visitors that sign in, and addresses of downloads."""

import dataclasses
import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from browsing import (
    CHROMIUM,
    FLAGS,
    HEIGHT,
    PATIENCE_MS,
    WIDTH,
    free_port,
    served,
    settle,
    wait_for,
)
from oidc_provider import CLIENT, SECRET
from pages_run import PagesRun
from playwright.sync_api import Browser, Page, sync_playwright

RUN_NAME = "secret-run.zarr"
LISTED = '[access]\naddresses = ["ann@EXAMPLE.org"]\ndomains = ["Team.example"]\n'


@dataclasses.dataclass
class Hosted:
    """A served dashboard whose visitors sign in.

    Attributes:
        address: of the dashboard.
        written: its secrets.toml.
        auth: what stands there about the provider.
        log: what the server wrote.
        browser: fresh profiles come from it.
    """

    address: str
    written: Path
    auth: str
    log: Path
    browser: Browser

    def allow(self, listed: str) -> None:
        """Write who gets in, and wait until the server has read it."""
        self.written.write_text(f"{self.auth}\n{listed}")
        time.sleep(3)

    def visit(self, place: str = "") -> Page:
        """A page in a fresh profile."""
        profile = self.browser.new_context(
            viewport={"width": WIDTH, "height": HEIGHT}, accept_downloads=True
        )
        profile.set_default_timeout(PATIENCE_MS)
        page = profile.new_page()
        page.goto(f"{self.address}/{place}")
        settle(page)
        return page

    def sign_in(self, who: str, place: str = "") -> Page:
        """A page in a fresh profile, after its visitor has told the provider who it is."""
        page = self.visit(place)
        page.get_by_role("button", name="Sign in").click()
        page.locator("input[name=who]").fill(who)
        page.get_by_role("button", name="Go on").click()
        page.wait_for_url(f"{self.address}/**")
        page.locator("h1").wait_for()
        settle(page)
        return page


@contextmanager
def opened_browser() -> Iterator[Browser]:
    path = str(CHROMIUM) if CHROMIUM.exists() else None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def hosted(
    run: PagesRun,
    folder: Path,
    *,
    browser: Browser,
    listed: str = LISTED,
    script: str = "streamlit_app.py",
) -> Iterator[Hosted]:
    """A dashboard over one run, with a provider."""
    port, provider = free_port(), free_port()
    address, written, log = f"http://127.0.0.1:{port}", folder / "secrets.toml", folder / "log.txt"
    auth = f"""[auth]
redirect_uri = "{address}/oauth2callback"
cookie_secret = "{secrets.token_hex(32)}"
client_id = "{CLIENT}"
client_secret = "{SECRET}"
server_metadata_url = "http://127.0.0.1:{provider}/o/.well-known/openid-configuration"
"""
    written.write_text(f"{auth}\n{listed}")
    place = f"--secrets.files={written}"
    with (
        _provider(provider, folder, f"{address}/oauth2callback"),
        served({RUN_NAME: run}, log, script=script, port=port, options=(place,)),
    ):
        yield Hosted(address, written, auth, log, browser)


@contextmanager
def _provider(port: int, folder: Path, redirect_uri: str) -> Iterator[None]:
    script, log = Path(__file__).parent / "oidc_provider.py", folder / "provider.txt"
    with (
        log.open("wb") as out,
        subprocess.Popen(
            [sys.executable, str(script), str(port), str(folder), redirect_uri],
            env={**os.environ, "OAUTHLIB_INSECURE_TRANSPORT": "1"},
            stdout=out,
            stderr=subprocess.STDOUT,
        ) as server,
    ):
        try:
            wait_for(f"http://127.0.0.1:{port}/o/.well-known/openid-configuration", server, log)
            yield
        finally:
            server.terminate()
            server.wait(timeout=30)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What an address answers."""

    status: int
    text: str
    headers: dict[str, str]


def asked(url: str, page: Page | None = None, *, cookies: dict[str, str] | None = None) -> Answer:
    """What an address answers to a visitor, or to nobody, by plain HTTP.

    Args:
        url: the address.
        page: of the visitor whose cookies go along.
        cookies: others instead.
    """
    kept = cookies if page is None else cookies_of(page)
    header = {"Cookie": "; ".join(f"{name}={value}" for name, value in (kept or {}).items())}
    request = urllib.request.Request(url, headers=header if kept else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return Answer(reply.status, reply.read().decode(), dict(reply.headers))
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read().decode(), dict(error.headers))


def cookies_of(page: Page) -> dict[str, str]:
    """Cookies of a visitor by name."""
    return {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}


def address_of_download(page: Page, key: str) -> str:
    """Where a download button gets its file."""
    settle(page)  # A click while the script runs, after another download, may be lost.
    with page.expect_download() as waiting:
        page.locator(f".st-key-{key} button:visible").click()
    return waiting.value.url


def everything(page: Page) -> str:
    """All that a page holds: its title, its elements, its text."""
    return "\n".join((page.title(), page.content(), page.locator("body").inner_text()))
