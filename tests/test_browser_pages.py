"""The three pages in a real browser: clicks, links, downloads, hostile text, pictures."""

import os
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from browsing import (
    BUNDLED,
    WIDTH,
    Site,
    View,
    cells,
    choose,
    compared,
    context,
    downloaded,
    enter,
    expected_deltas,
    kept_positions,
    parsed,
    press,
    settle,
    slide,
)
from pages_run import HOSTILE
from playwright.sync_api import Page, expect

from probing.reporting import display, export, tables
from probing.reporting.contrasts import COMPARISON
from probing.reporting.examples import Order, position_name
from probing.reporting.filters import EVERY, Filters, count
from probing.reporting.remaking import made_again
from probing.settings import Decoding
from probing.vocabulary import Stratum

pytestmark = pytest.mark.browser


def go(page: Page, title: str) -> None:
    page.get_by_role("link", name=title, exact=True).click()
    page.locator("h1", has_text=title if title != "Overview" else "What fine-tuning").wait_for()
    settle(page)


def test_an_example_downloads_as_it_is_shown(site: Site, page: Page) -> None:
    go(page, "Examples")
    choose(page, "example_by", "Tail mass")
    enter(page, "example", "2")
    ranked = tables.ranked_positions(
        kept_positions(site, View()), by="tail_mass", order=Order.CHANGE
    )
    row = int(ranked.iloc[1]["row"])
    run = site.runs["pages.zarr"].open()
    table = tables.example_table(run, row, other="ssd", control="control", decoding=Decoding())
    found = parsed(downloaded(page, "example_csv"))
    for name in ("baseline_id", "other_id", "control_id", "baseline_prob", "other_kept_prob"):
        assert found[name].tolist() == table[name].tolist()
    expect(context(page)).to_have_text(tables.shown_context(run, row))
    shown = display.shown_example(table).data.to_dict("records")
    for drawn, row_shown in zip(cells(page, "example"), shown, strict=True):
        assert drawn[1] == row_shown["Baseline token"].strip()
        assert float(drawn[5]) == pytest.approx(row_shown["Probability "])


def test_hostile_text_is_text(site: Site, page: Page) -> None:
    view = View(kept=Filters(selector=EVERY))
    go(page, "Examples")
    choose(page, "selector", display.selector_label(EVERY))
    choose(page, "example_order", Order.RANDOM.value)
    ranked = tables.ranked_positions(kept_positions(site, view), by="top1_prob", order=Order.RANDOM)
    run = site.runs["pages.zarr"].open()
    contexts = [tables.shown_context(run, row) for row in ranked["row"]]
    for word in [word for word in HOSTILE if word.startswith(("<", "!["))]:
        place = next(i for i, context in enumerate(contexts, start=1) if word in context)
        enter(page, "example", str(place))
        shown = context(page)
        expect(shown).to_contain_text(word)
        expect(shown.locator("img, script, a")).to_have_count(0)
        expect(page.locator("[data-testid=stMain] img")).to_have_count(0)


def test_the_sidebar_and_the_address_follow_from_page_to_page(site: Site, page: Page) -> None:
    press(page, "kind", "lock-like")
    slide(page, "temperature", 4)
    for title in ("Deltas", "Examples", "Overview"):
        go(page, title)
        query = parse_qs(urlsplit(page.url).query)
        assert (query["kind"], query["temperature"]) == (["lock-like"], ["1.2"])
    page.reload()
    settle(page)
    assert parse_qs(urlsplit(page.url).query)["kind"] == ["lock-like"]


def test_the_foot_counts_links_and_resets(site: Site, page: Page) -> None:
    press(page, "kind", "fork-like")
    slide(page, "temperature", 2)
    go(page, "Deltas")
    foot = page.locator(".st-key-foot")
    kept = count(kept_positions(site, View(kept=Filters(kind=("fork-like",)))))
    whole = count(kept_positions(site, View(kept=Filters(selector=EVERY))))
    expect(foot).to_contain_text(f"{kept.positions:,} of {whole.positions:,} positions")
    expect(foot).to_contain_text(f"{kept.problems:,} of {whole.problems:,} problems")
    foot.get_by_role("button", name="Link").click()
    link = page.get_by_test_id("stPopoverBody").locator("code").inner_text().replace("\n", "")
    assert parse_qs(urlsplit(link).query) == parse_qs(urlsplit(page.url).query)
    assert urlsplit(link).path == urlsplit(page.url).path
    page.keyboard.press("Escape")
    foot.get_by_role("button", name="Reset").click()
    settle(page)
    assert not {"kind", "temperature"} & set(parse_qs(urlsplit(page.url).query))
    first = count(kept_positions(site, View()))
    expect(foot).to_contain_text(f"{first.positions:,} of {whole.positions:,} positions")
    page.goto(link)
    settle(page)
    expect(foot).to_contain_text(f"{kept.positions:,} of {whole.positions:,} positions")


def test_deltas_group_by_two_strata(site: Site, page: Page) -> None:
    go(page, "Deltas")
    choose(page, "by", display.stratum_label(Stratum.GENERATOR))
    page.keyboard.press("Escape")
    settle(page)
    found = parsed(downloaded(page, "deltas_csv"))
    table = expected_deltas(site, View(), by=(Stratum.KIND, Stratum.GENERATOR))
    shown = table[table["quantity"].isin(found["quantity"])].reset_index(drop=True)
    assert found["quantity"].nunique() == 4
    order = [COMPARISON, "kind", "generator", "quantity"]
    both = [frame.sort_values(order, ignore_index=True) for frame in (found, shown)]
    for name in order:
        assert both[0][name].astype(str).tolist() == both[1][name].astype(str).tolist(), name
    for name in ("delta", "low", "high", "null", "positions"):
        np.testing.assert_allclose(both[0][name], both[1][name], rtol=1e-9, atol=1e-12)


def test_a_click_looks_into_a_group_and_leads_to_its_examples(site: Site, page: Page) -> None:
    go(page, "Deltas")
    marks = page.locator('[data-testid=stMain] svg path[aria-label*="group: fork-like"]')
    marks.first.click(force=True)
    page.get_by_text("In fork-like").wait_for()
    settle(page)
    table = page.get_by_test_id("stDataFrame").first
    table.scroll_into_view_if_needed()
    table.locator("[role=columnheader]").first.wait_for(state="attached")
    headers = table.locator("[role=columnheader]").all_text_contents()
    seven = ["#", "Delta", "Control", "Difference", "Kind", "Event", "Context"]
    assert [header.strip() for header in headers][:7] == seven
    kept = kept_positions(site, View(kept=Filters(kind=("fork-like",))))
    page.get_by_role("button", name=f"Examples of these {len(kept):,} positions").click()
    page.locator("h1", has_text="Examples").wait_for()
    settle(page)
    assert parse_qs(urlsplit(page.url).query)["kind"] == ["fork-like"]
    ranked = tables.ranked_positions(kept, by="top1_prob", order=Order.CHANGE)
    run = site.runs["pages.zarr"].open()
    shown = context(page)
    expect(shown).to_have_text(tables.shown_context(run, int(ranked.iloc[0]["row"])))


def test_a_copied_link_finds_the_same_position_again(site: Site, page: Page) -> None:
    go(page, "Examples")
    choose(page, "example_order", Order.RANDOM.value)
    enter(page, "example", "7")
    position = tables.ranked_positions(
        kept_positions(site, View()), by="top1_prob", order=Order.RANDOM
    ).iloc[6]
    assert parse_qs(urlsplit(page.url).query)["at"] == [position_name(position)]
    text = tables.shown_context(site.runs["pages.zarr"].open(), int(position["row"]))
    expect(context(page)).to_have_text(text)
    # The position is found again even where the filters would now leave it out.
    other = f"at={position_name(position)}&temperature=0.5"
    for query, place in ((urlsplit(page.url).query, "7"), (other, "1")):
        again = site.visit(query, place="examples")
        expect(again.get_by_text("the position that the link names")).to_be_visible()
        expect(context(again)).to_have_text(text)
        again.get_by_role("button", name="Back to the ranking").click()
        settle(again)
        expect(again.get_by_text("the position that the link names")).not_to_be_visible()
        expect(again.locator(".st-key-example input").first).to_have_value(place)
        again.context.close()


@pytest.mark.parametrize(
    "name", ["nothing", "c001-0:99999", "../../etc/passwd:1", "<b>:-1", ":", f"c:{'9' * 5000}"]
)
def test_a_link_to_no_position_is_a_sentence(site: Site, name: str) -> None:
    page = site.visit(f"at={name}", place="examples")
    expect(page.get_by_text("is not in this run")).to_be_visible()
    page.context.close()


def test_a_click_in_the_list_shows_that_position(site: Site, page: Page) -> None:
    go(page, "Examples")
    ranked = tables.ranked_positions(
        kept_positions(site, View()), by="top1_prob", order=Order.CHANGE
    )
    table = page.get_by_test_id("stDataFrame").first
    box = table.bounding_box()
    assert box is not None
    # The grid is a canvas: the box before the fourth row.
    page.mouse.click(box["x"] + 18, box["y"] + 35 * 4 + 17)
    settle(page)
    run = site.runs["pages.zarr"].open()
    shown = context(page)
    expect(shown).to_have_text(tables.shown_context(run, int(ranked.iloc[3]["row"])))
    assert parse_qs(urlsplit(page.url).query)["example"] == ["4"]


def test_the_list_downloads_whole(site: Site, page: Page) -> None:
    go(page, "Examples")
    found = parsed(downloaded(page, "positions_csv"))
    ranked = tables.ranked_positions(
        kept_positions(site, View()), by="top1_prob", order=Order.CHANGE
    )
    assert found["delta"].tolist() == ranked["top1_prob_delta"].tolist()
    assert found["carrier_id"].tolist() == ranked["carrier_id"].tolist()


def test_events_and_transitions_download_as_the_store_has_them(site: Site, page: Page) -> None:
    go(page, "Deltas")
    every = compared(site, View())
    events = parsed(downloaded(page, "events_csv"))
    expected = tables.event_tables(every)
    for name in (COMPARISON, "kind", "event", "share", "null", "null_by_symmetry"):
        assert events[name].tolist() == expected[name].tolist(), name
    assignments = parsed(downloaded(page, "assignments_csv"))
    assert assignments["assignment"].unique().tolist() == ["mean", "baseline", "other"]
    assert assignments[COMPARISON].unique().tolist() == [*every]
    press(page, "kind", "fork-like")
    transitions = parsed(downloaded(page, "transitions_csv"))
    table = tables.transition_tables(every, filters=Filters(kind=("fork-like",)))
    assert transitions["share"].tolist() == table["share"].tolist()


def test_every_table_can_be_made_again_from_its_settings(site: Site, page: Page) -> None:
    run = site.runs["pages.zarr"].open()
    press(page, "kind", "fork-like")
    press(page, "average", "carrier")
    slide(page, "temperature", 3)
    for title, names in (
        ("Overview", ["overview"]),
        ("Deltas", ["deltas", "assignments", "transitions", "events"]),
        ("Examples", ["positions", "example"]),
    ):
        if title != "Overview":
            go(page, title)
        if title == "Examples":
            choose(page, "example_order", Order.RANDOM.value)
            enter(page, "example_seed", "5")
            enter(page, "example", "3")
        for name in names:
            again = made_again(run, downloaded(page, f"{name}_settings"))
            assert export.csv_text(again) == downloaded(page, f"{name}_csv"), name


PICTURES = {
    "overview": "",
    "deltas": "deltas",
    "examples": "examples",
    "carrier": "carrier",
    "mechanism": "mechanism",
    "methods": "methods",
}
LOOKED_AT = {"carrier": "&at=gcd-0076/smollm2-135m-maths/T0.6:25"}
"""What a page shows at first, of the run that ships."""

WITHOUT_CHARTS = {"examples", "carrier", "methods"}

TRAINED = "train_temperature=1.6&train_top_k=20&train_top_p=0.8"
"""How the demo's samples were drawn."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PICTURES)
def test_screenshots(site: Site, name: str, scheme: str, tmp_path: Path) -> None:
    folder = Path(os.environ.get("PROBING_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    query = f"run={BUNDLED.name}" if BUNDLED.exists() else "run=pages.zarr"
    query += LOOKED_AT.get(name, "")
    page = site.visit(f"{query}&{TRAINED}", scheme=scheme, place=PICTURES[name])
    if name not in WITHOUT_CHARTS:
        page.get_by_test_id("stVegaLiteChart").last.locator("svg, canvas").first.wait_for()
    page.wait_for_timeout(1500)
    tall = page.evaluate(
        "Math.max(...['stMain', 'stSidebarContent'].map("
        "name => document.querySelector(`[data-testid=${name}]`).scrollHeight))"
    )
    page.set_viewport_size({"width": WIDTH, "height": tall})
    page.wait_for_timeout(1500)
    picture = folder / f"{name}-{scheme}.png"
    page.screenshot(path=picture)
    background = page.get_by_test_id("stApp").evaluate(
        "one => getComputedStyle(one).backgroundColor"
    )
    page.context.close()
    assert picture.stat().st_size > 50_000
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 28)"}[scheme]
