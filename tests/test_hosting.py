"""Signing in by a real provider and a real browser: who sees figures, and who gets a file."""

import json
import re
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import downloaded, parsed, settle
from hosting import (
    LISTED,
    RUN_NAME,
    Hosted,
    address_of_download,
    asked,
    cookies_of,
    everything,
    hosted,
    opened_browser,
)
from itsdangerous import TimestampSigner, URLSafeTimedSerializer
from pages_run import PagesRun, write_pages_run
from playwright.sync_api import Page, expect

from probing.reporting import filters, tables
from probing.reporting.filters import Filters
from probing.settings import Decoding, KindRule

pytestmark = pytest.mark.browser

OF_A_RUN = (RUN_NAME, "bundled", "Overview", "Deltas", "ssd", "baseline", ".csv")
"""What a visitor who may not enter finds nowhere: names, pages, controls, addresses."""

USER_COOKIE = "_streamlit_user"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> PagesRun:
    return write_pages_run(tmp_path_factory.mktemp("run") / RUN_NAME, problems=6)


@pytest.fixture(scope="module")
def site(run: PagesRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    folder = tmp_path_factory.mktemp("hosted")
    with opened_browser() as browser, hosted(run, folder, browser=browser) as found:
        yield found


@pytest.fixture(scope="module")
def ann(site: Hosted) -> Iterator[Page]:
    page = site.sign_in("ann")
    yield page
    page.context.close()


def stays_out(page: Page) -> None:
    settle(page)
    text = everything(page)
    # Whole words: names of styles are random, and three letters of one may be a model's.
    assert [word for word in OF_A_RUN if re.search(rf"\b{re.escape(word)}\b", text)] == []
    # A sidebar that was there stays, empty.
    assert "".join(page.get_by_test_id("stSidebarUserContent").all_inner_texts()) == ""
    expect(page.locator("[data-testid=stSidebarUserContent] :is(button, input)")).to_have_count(0)
    expect(page.get_by_test_id("stTopNavLink")).to_have_count(0)


def test_a_listed_address_sees_the_figures_of_the_store(run: PagesRun, ann: Page) -> None:
    compared = tables.comparison_table(
        run.open(), other="ssd", decoding=Decoding(), rule=KindRule()
    )
    kept = filters.count(filters.keep(compared, filters=Filters()))
    shown = ann.get_by_test_id("stMetricValue").all_text_contents()
    assert shown[0].strip() == f"{kept.positions:,}"
    assert not parsed(downloaded(ann, "overview_csv")).empty
    expect(ann.get_by_test_id("stSidebar")).to_contain_text("Signed in as ann@example.org")
    cookie = next(one for one in ann.context.cookies() if one["name"] == USER_COOKIE)
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Lax"


def test_a_listed_domain_gets_in_and_ends_up_where_its_link_leads(site: Hosted) -> None:
    page = site.sign_in("ben", "deltas?temperature=1.2")
    expect(page.locator("h1")).to_have_text("Deltas")
    assert page.url == f"{site.address}/deltas?temperature=1.2"
    page.context.close()


@pytest.mark.parametrize(
    ("who", "said"),
    [
        ("eve", "eve@evil-example.org\nThis address is not on the list"),
        ("sub", "sub@deep.team.example\nThis address is not on the list"),
        ("uma", "uma@team.example\nOnly addresses that the provider has verified"),
        ("una", "una@team.example\nOnly addresses that the provider has verified"),
        ("two", "a@b@team.example\nThis is not written as an address"),
        ("odd", "x\\u202e\\n@team.example\nThis is not written as an address"),
        ("nil", "The provider sends no address"),
    ],
)
def test_who_is_not_listed_is_refused_by_name(site: Hosted, ann: Page, who: str, said: str) -> None:
    page = site.sign_in(who, f"deltas?run={RUN_NAME.removesuffix('.zarr')}")
    expect(page.get_by_text("may not see this dashboard")).to_be_visible()
    assert said in page.locator("[data-testid=stMain]").inner_text()
    stays_out(page)
    # Signed in, but not on the list: no file either.
    assert asked(address_of_download(ann, "overview_csv"), page).status == 403
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Sign in").wait_for()
    page.context.close()


@pytest.mark.parametrize("place", ["", "deltas", "examples?at=c001-0:3", "nothing"])
def test_a_signed_out_visitor_sees_a_button_and_nothing_of_a_run(site: Hosted, place: str) -> None:
    page = site.visit(place)
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    stays_out(page)
    page.context.close()


def test_the_address_of_a_download_answers_its_visitor_and_nobody_else(
    site: Hosted, ann: Page
) -> None:
    address = address_of_download(ann, "overview_csv")
    mine = asked(address, ann)
    assert mine.status == 200
    assert mine.headers["cache-control"] == "private, no-store"
    assert "top1_prob" in mine.text
    out = site.visit()
    for answer in (asked(address), asked(address, out)):
        assert (answer.status, answer.text) == (403, "Sign in to the dashboard first.\n")
        assert answer.headers["cache-control"] == "no-store"
    for path in ("_stcore/metrics", "_stcore/agent/openapi.json", "app/static/x", "component/x"):
        assert asked(f"{site.address}/{path}").status == 403
    out.context.close()


def test_a_cookie_that_was_changed_is_nobodys(site: Hosted, ann: Page) -> None:
    address, cookies = address_of_download(ann, "overview_csv"), cookies_of(ann)
    assert asked(address, cookies=cookies).status == 200
    whole = cookies[USER_COOKIE]
    changed = whole[:40] + ("B" if whole[40] == "A" else "A") + whole[41:]
    for value in (changed, whole[:-2], whole[:40], "", "x", "chunks-9999999"):
        assert asked(address, cookies=cookies | {USER_COOKIE: value}).status == 403
    # One cookie in the place of another.
    tokens = cookies["_streamlit_user_tokens"]
    assert asked(address, cookies=cookies | {USER_COOKIE: tokens}).status == 403
    page = site.visit()
    page.context.add_cookies([{"name": USER_COOKIE, "value": changed, "url": site.address}])
    page.reload()
    page.get_by_role("button", name="Sign in").wait_for()
    stays_out(page)
    page.context.close()


class Old(TimestampSigner):
    """Signs as it would have 32 days ago."""

    def get_timestamp(self) -> int:
        return int(time.time()) - 32 * 24 * 3600


def test_a_cookie_counts_where_and_as_long_as_it_should(site: Hosted, ann: Page) -> None:
    address = address_of_download(ann, "overview_csv")
    secret = tomllib.loads(site.auth)["auth"]["cookie_secret"]
    user = {"is_logged_in": True, "email": "ann@example.org", "email_verified": True}
    for origin, signer, status in (
        (site.address, TimestampSigner, 200),
        ("http://127.0.0.1:1", TimestampSigner, 403),
        (site.address, Old, 403),
    ):
        signing = URLSafeTimedSerializer(secret, salt=USER_COOKIE, signer=signer)
        cookie = signing.dumps(json.dumps(user | {"origin": origin}))
        assert asked(address, cookies={USER_COOKIE: str(cookie)}).status == status


def test_signing_out_ends_every_tab_and_every_copy_of_the_cookie(site: Hosted) -> None:
    page = site.sign_in("ben")
    address, kept = address_of_download(page, "overview_csv"), cookies_of(page)
    assert asked(address, cookies=kept).status == 200
    other = page.context.new_page()
    other.goto(site.address)
    settle(other)
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Sign in").wait_for()
    stays_out(page)
    assert USER_COOKIE not in cookies_of(page)
    assert asked(address, page).status == 403
    assert asked(address, cookies=kept).status == 403
    # The other tab asks for something, and meets the door.
    other.locator(".st-key-greedy label").first.click()
    other.get_by_role("button", name="Sign in").wait_for()
    stays_out(other)
    page.context.close()


def test_who_is_taken_off_the_list_sees_and_gets_nothing_more(site: Hosted) -> None:
    page = site.sign_in("ben")
    address = address_of_download(page, "overview_csv")
    try:
        site.allow(LISTED.replace("Team.example", "other.example"))
        assert asked(address, page).status == 403
        page.locator(".st-key-greedy label").first.click()
        page.get_by_text("may not see this dashboard").wait_for()
        stays_out(page)
        for broken in ("", "[access]\ndomains = []\n", "[access\n"):
            site.allow(broken)
            assert asked(address, page).status == 403
            shut = site.visit()
            expect(shut.get_by_text("Nobody can get in yet.")).to_be_visible()
            expect(shut.get_by_text('domains = ["example.com"]')).to_be_visible()
            stays_out(shut)
            shut.context.close()
        site.written.unlink()
        page.wait_for_timeout(3000)
        assert asked(address, page).status == 403
        assert asked(address).status == 403
    finally:
        site.allow(LISTED)
    page.context.close()


def test_health_answers_without_signing_in_and_tells_nothing(site: Hosted) -> None:
    answer = asked(f"{site.address}/_stcore/health")
    assert (answer.status, answer.text) == (200, "ok")


def test_a_visit_is_a_line_without_text_or_query(site: Hosted) -> None:
    page = site.sign_in("ann", "deltas?search=notinthelog&at=c001-0:3")
    page.context.close()
    log = site.log.read_text()
    assert f'visit user="ann@example.org" page="Deltas" run="{RUN_NAME}"' in log
    assert "notinthelog" not in log
    assert "apples" not in log
    # Odd's address has a line break: it is refused, and never on a line of its own.
    assert all(line.startswith("20") for line in log.splitlines() if "visit" in line)


PLAIN = """
import streamlit as st

from probing.dashboard import gate, guard

if __name__ == "__main__":
    if gate.entered():
        st.title("Plain")
        st.download_button("Get", "known,text", file_name="a.csv", key="plain")
        st.download_button("Get", lambda: "late,text", file_name="b.csv", key="late")
else:
    app = st.App(__file__, middleware=guard.MIDDLEWARE)
"""


def test_plain_and_deferred_downloads_are_guarded_alike(
    site: Hosted, run: PagesRun, tmp_path: Path
) -> None:
    script = tmp_path / "plain_page.py"
    script.write_text(PLAIN)
    with hosted(run, tmp_path, script=str(script), browser=site.browser) as other:
        page = other.sign_in("ann")
        for key, text in (("plain", "known,text"), ("late", "late,text")):
            address = address_of_download(page, key)
            assert asked(address, page).text == text
            assert asked(address).status == 403
