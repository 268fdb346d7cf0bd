"""The sidebar in a real browser: every control, the figures it shows, what it downloads."""

import dataclasses
import json
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from browsing import (
    Site,
    View,
    check,
    choose,
    downloaded,
    enter,
    kept_positions,
    press,
    settle,
    slide,
    switch,
)
from pages_run import THINGS
from playwright.sync_api import Page, expect

from probing.reporting import display, filters
from probing.reporting.filters import EVERY, Average, Filters
from probing.settings import KIND_PRESETS, Decoding
from probing.vocabulary import Assignment, Stratum

pytestmark = pytest.mark.browser


def unfold(page: Page, key: str, label: str) -> None:
    """Press a filter of those that are folded away."""
    page.get_by_text("More filters").click()
    settle(page)  # it unfolds slowly, and what moves cannot be clicked
    press(page, key, label)


def open_event(page: Page, label: str) -> None:
    page.get_by_text("More filters").click()
    settle(page)
    choose(page, "event", label)


@dataclasses.dataclass(frozen=True)
class Move:
    """One control, how it is set, what the address then says, and what the page must show."""

    key: str
    act: Callable[[Page], None]
    address: str
    view: View


MOVES = [
    Move("run", lambda p: choose(p, "run", "small.zarr"), "small.zarr", View(run="small.zarr")),
    Move(
        "other",
        lambda p: choose(p, "other", "control"),
        "control",
        View(other="control", control=None),
    ),
    Move("control", lambda p: choose(p, "control", "none"), "none", View(control=None)),
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
        lambda p: press(p, "generator", "ssd"),
        "ssd",
        View(kept=Filters(generator=("ssd",))),
    ),
    Move(
        "right",
        lambda p: unfold(p, "right", "both right"),
        "both right",
        View(kept=Filters(right_model=("both right",))),
    ),
    Move(
        "phase",
        lambda p: unfold(p, "phase", "before think-close"),
        "before think-close",
        View(kept=Filters(phase=("before think-close",))),
    ),
    Move(
        "token",
        lambda p: unfold(p, "token", "word"),
        "word",
        View(kept=Filters(token_class=("word",))),
    ),
    Move(
        "subject",
        lambda p: unfold(p, "subject", THINGS[1]),
        THINGS[1],
        View(kept=Filters(subject=(THINGS[1],))),
    ),
    Move(
        "difficulty",
        lambda p: unfold(p, "difficulty", "hard"),
        "hard",
        View(kept=Filters(difficulty=("hard",))),
    ),
    Move(
        "sampled",
        lambda p: unfold(p, "sampled", "T = 0.6"),
        "T = 0.6",
        View(kept=Filters(sampling_temperature=("T = 0.6",))),
    ),
    Move(
        "event",
        lambda p: open_event(p, "strict lock"),
        "strict lock",
        View(kept=Filters(event=("strict lock",))),
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
    page.wait_for_url(lambda url: move.key in parse_qs(urlsplit(url).query))
    settle(page)
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
    # `foot` has a test of its own, in test_browser_pages.py.
    assert drawn == {*(move.key for move in MOVES), "length", "kinds_follow", "foot"}


def test_the_address_brings_everything_back(site: Site, page: Page) -> None:
    choose(page, "other", "control")
    slide(page, "temperature", -4)
    press(page, "kind", "lock-like")
    press(page, "kind", "mixed")
    view = View(
        other="control",
        control=None,
        decoding=Decoding(temperature=0.8),
        kept=Filters(kind=("lock-like", "mixed")),
    )
    check(site, page, view)
    again = site.visit(urlsplit(page.url).query)
    check(site, again, view)
    again.context.close()


def test_settings_download_says_what_was_set(site: Site, page: Page) -> None:
    press(page, "correct", "wrong")
    document = json.loads(downloaded(page, "overview_settings"))
    assert document["run"]["fingerprint"] == site.runs["pages.zarr"].open().fingerprint
    assert document["filters"]["correct"] == ["wrong"]
    assert document["decoding"]["top_k"] == Decoding().top_k


def test_nothing_left_is_said(page: Page) -> None:
    press(page, "kind", "mixed")
    choose(page, "selector", display.selector_label("think_close"))
    press(page, "correct", "unknown")
    press(page, "generator", "ssd")
    expect(page.get_by_text("No position passes these filters")).to_be_visible()
