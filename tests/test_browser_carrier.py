"""The page Carrier in a real browser: clicks and keys, colours, folds, links, hostile text."""

import re
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, quote, urlsplit

import pandas as pd
import pytest
from browsing import (
    CHROMIUM,
    FLAGS,
    Site,
    View,
    cells,
    choose,
    compared,
    context,
    downloaded,
    enter,
    parsed,
    press,
    served,
    settle,
    switch,
)
from pages_run import HOSTILE, long_carrier, write_pages_run
from playwright.sync_api import Locator, Page, expect, sync_playwright

from probing.carriers.record import Carrier
from probing.reporting import carrier, display, export, tables
from probing.reporting.coloring import KIND, Aspect, coloring
from probing.reporting.examples import Order, position_name
from probing.reporting.filters import Filters, keep
from probing.reporting.formulas import formulas
from probing.reporting.remaking import made_again
from probing.settings import Decoding

pytestmark = pytest.mark.browser

FORMULAS = (
    r"We find $\frac{1}{2}$ then $\href{http://example.org/a}{x}$ and "
    r"$\includegraphics{http://example.org/b.png}$ or $\htmlData{a=b}{x}$. Let $\def\a{\a\a}\a$ be "
    r"$\url{http://example.org/c}$ with $x$ $y$ ![x](http://example.org/d.png) $z$ and \boxed{12}."
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two runs: of many small responses, and of a very long one beside one full of formulas."""
    folder = tmp_path_factory.mktemp("carrier")
    sums = Carrier(
        carrier_id="formulas",
        problem_id="p",
        prompt="Well?",
        response=FORMULAS,
        generator="ssd",
    )
    runs = {
        "pages.zarr": write_pages_run(folder / "pages.zarr", problems=16),
        "long.zarr": write_pages_run(
            folder / "long.zarr", problems=4, more=[sums, long_carrier(30_000)], shard_rows=1024
        ),
    }
    with served(runs, folder / "log.txt") as address, sync_playwright() as playwright:
        path = str(CHROMIUM) if CHROMIUM.exists() else None
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield Site(address=address, runs=runs, browser=browser)
        browser.close()


THOUGHT = "c009-0"
"""A response with a thought, and with a sibling."""


def opened(site: Site, query: str = f"carrier={THOUGHT}", **more: str) -> Page:
    return site.visit(query, place="carrier", **more)


def own(site: Site, name: str = THOUGHT, view: View | None = None) -> pd.DataFrame:
    view = View() if view is None else view
    return carrier.carrier_positions(compared(site, view)[view.other], name)


def tokens(page: Page) -> Locator:
    return page.locator(".response .token")


def address(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def check_position(site: Site, page: Page, name: str, position: int) -> None:
    """Address, figures and top lists are those of this position in the store."""
    assert address(page)["at"] == [f"{name}:{position}"]
    positions = own(site, name)
    row = positions[positions["position"] == position].iloc[0]
    expect(page.get_by_text(display.event_text(row), exact=True)).to_be_visible()
    expect(page.get_by_text(display.place_text(row), exact=True)).to_be_visible()
    beside = compared(site, View())["control"].iloc[int(row["row"])]
    facts = display.shown_facts(row, beside=beside).to_numpy().tolist()
    assert cells(page, "own") == [[str(cell).strip() for cell in line] for line in facts]
    run = site.runs["pages.zarr"].open()
    table = tables.example_table(
        run, int(row["row"]), other="ssd", control="control", decoding=Decoding()
    )
    shown = display.shown_example(table).data.to_dict("records")
    for drawn, expected in zip(cells(page, "top"), shown, strict=True):
        assert drawn[1] == expected["Baseline token"].strip()
        assert float(drawn[2]) == pytest.approx(expected["Probability"])


def test_the_response_is_drawn_whole_in_the_stores_colours(site: Site) -> None:
    page = opened(site)
    every, positions = compared(site, View())["ssd"], own(site)
    run = site.runs["pages.zarr"].open()
    text = carrier.carrier_text(run, int(positions["carrier"].iloc[0]))
    shown = page.locator(".response .block").all_text_contents()
    assert "".join(shown) == "".join(piece.shown for piece in text.pieces)
    kept = keep(every, filters=Filters())["row"]
    inside = positions["row"].isin(kept).tolist()
    for query, by, aspect in (
        (None, "top1_prob", Aspect.DELTA),
        ("Tail mass", "tail_mass", Aspect.OTHER),
        ("Kind", KIND, Aspect.DELTA),
    ):
        if query:
            choose(page, "colored_by", query)
        if aspect is Aspect.OTHER:
            press(page, "colored_value", "Other")
        found = coloring(every, positions, by=by, aspect=aspect, inside=inside)
        drawn = tokens(page).evaluate_all(
            "all => all.map(one => ['--hue', '--part', '--line']"
            ".map(name => one.style.getPropertyValue(name)))"
        )
        shades = [found.shades[code] for code in found.codes]
        assert [one[0] for one in drawn] == [shade.hue for shade in shades]
        assert [float(one[1][:-1]) for one in drawn] == pytest.approx(
            [100 * shade.strength for shade in shades]
        )
        assert [one[2] for one in drawn] == [shade.line for shade in shades]
        legend = page.locator(".response li").all_text_contents()
        assert legend == [f"{found.label}:", *(f"a{shade.label}" for shade in found.shades)]
        place = len(positions) - 1
        expect(tokens(page).nth(place)).to_be_visible()
        tokens(page).nth(place).hover()
        expect(tokens(page).nth(place)).to_have_attribute(
            "title", re.compile(re.escape(f"{found.label} {found.values[place]}"))
        )
    page.context.close()


def test_a_click_shows_that_position(site: Site) -> None:
    page = opened(site)
    positions = own(site)
    page.locator(".response summary").click()
    for place in (0, len(positions) - 1, 2):
        tokens(page).nth(place).click()
        settle(page)
        check_position(site, page, THOUGHT, int(positions["position"].iloc[place]))
        expect(tokens(page).nth(place)).to_have_attribute("aria-pressed", "true")
        expect(page.locator(".response [aria-pressed=true]")).to_have_count(1)
    page.context.close()


def test_keys_go_from_token_to_token_and_choose(site: Site) -> None:
    page = opened(site)
    positions = own(site)
    run = site.runs["pages.zarr"].open()
    text = carrier.carrier_text(run, int(positions["carrier"].iloc[0]))
    assert text.thought is not None
    scored = text.thought.scored
    places = positions["position"].tolist()
    focused = "document.activeElement.shadowRoot.activeElement?.dataset.place"
    tokens(page).nth(scored).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(focused) == str(scored + 1)
    page.keyboard.press("Enter")
    settle(page)
    check_position(site, page, THOUGHT, places[scored + 1])
    # A folded thought is passed over, an open one is not.
    page.keyboard.press("Home")
    assert page.evaluate(focused) == str(scored)
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(focused) == str(scored)
    page.locator(".response summary").press("Enter")
    tokens(page).nth(scored).focus()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(focused) == str(scored - 1)
    expect(page.locator(".response .says")).to_contain_text(f"token {places[scored - 1] + 1}")
    page.keyboard.press(" ")
    settle(page)
    check_position(site, page, THOUGHT, places[scored - 1])
    page.keyboard.press("End")
    assert page.evaluate(focused) == str(len(places) - 1)
    page.context.close()


def test_the_thought_is_folded_and_says_what_is_in_it(site: Site) -> None:
    page = opened(site)
    positions = own(site)
    run = site.runs["pages.zarr"].open()
    text = carrier.carrier_text(run, int(positions["carrier"].iloc[0]))
    assert text.thought is not None
    summary = page.locator(".response summary")
    expect(summary).to_have_text(carrier.thought_label(text.thought))
    expect(tokens(page).first).not_to_be_visible()
    assert page.locator(".response details .token").count() == text.thought.scored
    summary.click()
    expect(tokens(page).first).to_be_visible()
    # Another quantity leaves it open.
    choose(page, "colored_by", "Tail mass")
    expect(tokens(page).first).to_be_visible()
    page.context.close()


def test_a_link_opens_the_same_token_again(site: Site) -> None:
    page = opened(site)
    positions = own(site)
    choose(page, "colored_by", "Entropy (nats)")
    page.locator(".response summary").click()
    tokens(page).nth(1).click()
    settle(page)
    name = position_name(positions.iloc[1])
    assert address(page)["at"] == [name]
    assert address(page)["colored_by"] == ["Entropy (nats)"]
    for query in (urlsplit(page.url).query, f"at={quote(name)}"):
        again = opened(site, query)
        expect(again.locator(".response [aria-pressed=true]")).to_have_attribute("data-place", "1")
        # A token of the thought opens it.
        expect(tokens(again).nth(1)).to_be_visible()
        check_position(site, again, THOUGHT, int(positions["position"].iloc[1]))
        again.context.close()
    page.reload()
    settle(page)
    check_position(site, page, THOUGHT, int(positions["position"].iloc[1]))
    page.context.close()


def test_another_response_to_the_problem_is_one_click_away(site: Site) -> None:
    page = opened(site)
    table = carrier.sibling_table(compared(site, View())["ssd"], THOUGHT)
    shown = carrier.shown_siblings(table)
    for drawn, row in zip(cells(page, "siblings"), shown.to_numpy().tolist(), strict=True):
        assert drawn[-5:] == [f"{cell}" for cell in row]
    found = parsed(downloaded(page, "siblings_csv"))
    assert found["scored"].tolist() == table["scored"].tolist()
    box = page.get_by_test_id("stDataFrame").nth(2).bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 18, box["y"] + 35 + 17)
    settle(page)
    name = table["carrier_id"].iloc[0]
    assert address(page)["carrier"] == [name]
    positions = own(site, name)
    expect(page.get_by_text(carrier.carrier_line(positions), exact=True)).to_be_visible()
    assert tokens(page).count() == len(positions)
    check_position(site, page, name, carrier.opening_position(positions))
    page.context.close()


def test_from_examples_to_the_response_and_back(site: Site) -> None:
    page = site.visit("example=3", place="examples")
    name = address(page)["at"][0]
    shown = context(page).text_content()
    page.get_by_role("button", name="Open in carrier").click()
    page.locator("h1", has_text="Carrier").wait_for()
    settle(page)
    carrier_id, _, position = name.rpartition(":")
    check_position(site, page, carrier_id, int(position))
    place = own(site, carrier_id)["position"].tolist().index(int(position))
    chosen = page.locator(".response [aria-pressed=true]")
    expect(chosen).to_have_attribute("data-place", str(place))
    expect(chosen).to_be_visible()
    page.get_by_role("button", name="Open in examples").click()
    page.locator("h1", has_text="Examples").wait_for()
    settle(page)
    assert address(page)["at"] == [name]
    expect(page.get_by_text("the position that the link names")).to_be_visible()
    expect(context(page)).to_have_text(shown or "")
    # The page's own link leads to what was looked at last, here in another response.
    page.get_by_role("button", name="Back to the ranking").click()
    settle(page)
    ranked = tables.ranked_positions(
        keep(compared(site, View())["ssd"], filters=Filters()), by="top1_prob", order=Order.CHANGE
    )
    other = next(i for i, one in enumerate(ranked["carrier_id"], 1) if one != carrier_id)
    enter(page, "example", str(other))
    name = address(page)["at"][0]
    assert name == position_name(ranked.iloc[other - 1])
    page.get_by_role("link", name="Carrier", exact=True).click()
    page.locator("h1", has_text="Carrier").wait_for()
    settle(page)
    carrier_id, _, position = name.rpartition(":")
    check_position(site, page, carrier_id, int(position))
    expect(page.locator(".st-key-carrier input").first).to_have_value(carrier_id)
    page.context.close()


def test_a_responses_positions_download_and_can_be_made_again(site: Site) -> None:
    page = opened(site)
    text = downloaded(page, "carrier_csv")
    assert text == export.csv_text(own(site))
    run = site.runs["pages.zarr"].open()
    assert export.csv_text(made_again(run, downloaded(page, "carrier_settings"))) == text
    page.context.close()


@pytest.mark.parametrize(
    "query",
    [
        "carrier=../../etc/passwd",
        "carrier=<img src=x onerror=alert(1)>&at=<b>:1",
        f"carrier={THOUGHT}&at={THOUGHT}:99999",
        f"carrier={THOUGHT}&at=c003-0:0&colored_by=nothing&colored_value=7",
        f"carrier={THOUGHT}&at={THOUGHT}:{'9' * 400}",
    ],
)
def test_a_hostile_address_opens_some_response(site: Site, query: str) -> None:
    site.foreign.clear()
    site.complaints.clear()
    page = opened(site, query)
    expect(page.locator(".response .token").last).to_be_visible()
    expect(page.locator("[data-testid=stException], [data-testid=stMain] img")).to_have_count(0)
    page.context.close()
    assert (site.foreign, site.complaints) == ([], [])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_thirty_thousand_tokens_are_usable(site: Site, scheme: str) -> None:
    site.foreign.clear()
    site.complaints.clear()
    page = site.visit("run=long.zarr", scheme=scheme)
    page.goto(f"{site.address}/carrier?run=long.zarr&carrier=long")
    settle(page)
    began = time.perf_counter()
    page.get_by_role("link", name="Overview", exact=True).click()
    page.get_by_role("link", name="Carrier", exact=True).click()
    page.locator(".response .token").first.wait_for(state="attached")
    settle(page)
    assert time.perf_counter() - began < 30
    assert tokens(page).count() > 5_000
    # What is drawn are scored tokens and blocks of text, not a node for every token.
    nodes = page.locator(".response").evaluate("one => one.querySelectorAll('*').length")
    assert nodes < tokens(page).count() + 100
    page.locator(".response summary").click()
    began = time.perf_counter()
    tokens(page).nth(2000).click()
    page.wait_for_function("name => location.search.includes(name)", arg="long%3A")
    settle(page)
    assert time.perf_counter() - began < 20
    box = page.locator(".response .text")
    for word in HOSTILE:
        if word.startswith(("<", "!", ":", "*", "$")):
            expect(box).to_contain_text(word)
    expect(box.locator("img, script, a, svg, iframe, strong, em")).to_have_count(0)
    assert contrasts(page) >= 4.5
    page.context.close()
    assert (site.foreign, site.complaints) == ([], [])


def contrasts(page: Page) -> float:
    """The least contrast of a token's text and its own background, as the browser draws them."""
    least: float = page.evaluate(
        """
        () => {
            const canvas = document.createElement('canvas').getContext('2d');
            const light = color => {
                canvas.fillStyle = color;
                canvas.fillRect(0, 0, 1, 1);
                const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(part => {
                    const c = part / 255;
                    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
                });
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const root = [...document.querySelectorAll('*')].map(one => one.shadowRoot)
                .find(one => one?.querySelector('.response'));
            const found = [...root.querySelectorAll('.token')].slice(0, 400).map(one => {
                const style = getComputedStyle(one);
                const [ink, ground] = [light(style.color), light(style.backgroundColor)];
                return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
            });
            return Math.min(...found);
        }
        """
    )
    return least


def test_formulas_are_rendered_on_request_and_nothing_else_is(site: Site) -> None:
    site.foreign.clear()
    site.complaints.clear()
    run = site.runs["long.zarr"].open()
    every = compared(site, View(run="long.zarr"))["ssd"]
    row = carrier.carrier_positions(every, "formulas").iloc[0]
    around = tables.example_context(run, int(row["row"]))
    found = formulas(around.before + around.token + around.after)
    rendered = [one for one in found if not one.refused]
    assert 0 < len(rendered) < len(found)
    page = site.visit(f"run=long.zarr&at={position_name(row)}", place="examples")
    main = page.get_by_test_id("stMain")
    expect(main.locator(".katex")).to_have_count(0)
    switch(page, "example_formulas")
    expect(main.locator(".katex-html")).to_have_count(len(rendered))
    expect(main.get_by_text("Not rendered: ")).to_have_count(len(found) - len(rendered))
    for one in found:
        expect(main.locator("code", has_text=one.source).first).to_be_visible()
    expect(main.locator("img, a[href*='example.org'], .katex-error, [data-a]")).to_have_count(0)
    page.wait_for_timeout(500)
    page.context.close()
    assert (site.foreign, site.complaints) == ([], [])
