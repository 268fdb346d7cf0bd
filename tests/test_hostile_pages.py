"""Every page over a hostile run in a real browser: nothing runs, nothing loads, all is text."""

import dataclasses
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

import pytest
from browsing import CHROMIUM, FLAGS, Site, downloaded, served, settle, switch
from hostile import BIDI, BIG, ESCAPES, HOST, IMAGE, MODELS, TEXTS, write_hostile_run
from labelled import RANKED, label_of
from pages_run import hidden, write_pages_run
from playwright.sync_api import Page, expect, sync_playwright

from probing.reporting import carrier, export, methods, tables
from probing.reporting.display import stratum_label
from probing.reporting.formulas import formulas
from probing.reporting.multiverse import multiverse_table
from probing.reporting.text import LONGEST_TOKEN, line, plain
from probing.settings import Decoding, KindRule
from probing.store.labels import LabelFile
from probing.vocabulary import Stratum

pytestmark = pytest.mark.browser

RUN = "hostile.zarr"
USUAL = {"run": RUN, "control": line(MODELS[2])}
ODD = f"{IMAGE} [a](b) $x$ :red[c] http:= {BIDI}.zarr"
TOLD = """
() => {
    const told = [], links = [];
    const walk = node => {
        if (node.nodeType === Node.TEXT_NODE) told.push(node.data);
        if (['SCRIPT', 'STYLE'].includes(node.tagName)) return;
        for (const name of ['title', 'aria-label', 'alt', 'placeholder', 'value']) {
            const value = node[name] ?? node.getAttribute?.(name);
            if (typeof value === 'string') told.push(value);
        }
        for (const name of ['href', 'src', 'srcset', 'action', 'xlink:href', 'style']) {
            const value = node.getAttribute?.(name);
            if (value) links.push(value);
        }
        if (node.shadowRoot) walk(node.shadowRoot);
        node.childNodes.forEach(walk);
    };
    walk(document.body);
    return [told, links, window.hacked === undefined, frames.length];
}
"""
"""All that a page tells eyes and ears, all that it leads to, and whether anything ran."""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("hostile")
    run = write_hostile_run(folder / RUN)
    opened = run.open()
    every = positions_of(run.open())
    bad = [ESCAPES, BIDI, IMAGE, f"[x](http://{HOST}/label)"]
    file = LabelFile.beside(opened.location)
    assert file is not None
    given = [
        label_of(opened, every.iloc[0], who=text[:40], note=text, order=RANKED) for text in bad
    ]
    file.append(tuple(dataclasses.replace(one, other=MODELS[1]) for one in given))
    runs = {RUN: run, ODD: write_pages_run(folder / ODD, problems=6)}
    with served(runs, folder / "log.txt") as address, sync_playwright() as playwright:
        path = str(CHROMIUM) if CHROMIUM.exists() else None
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield Site(address=address, runs=runs, browser=browser)
        browser.close()


@pytest.fixture(scope="module")
def window(hostile: Site) -> Iterator[Page]:
    page = hostile.visit(f"run={RUN}", place="methods")
    yield page
    page.context.close()


def positions_of(run):  # noqa: ANN001, ANN201
    return tables.comparison_table(run, other=MODELS[1], decoding=Decoding(), rule=KindRule())


def seen(site: Site, page: Page, place: str = "", *, most: int = 300_000, **asked: Any) -> str:
    """What a page tells after it was opened anew, once it is known to be calm."""
    page.goto(f"{site.address}/{place}?{urlencode(USUAL | asked, doseq=True)}")
    page.locator("h1").wait_for()
    settle(page)
    return calm(site, page, most=most)


def calm(site: Site, page: Page, *, most: int = 300_000) -> str:
    """Nothing ran, loaded, leads away, is hidden or too long; what the page tells."""
    told, links, still, frames = page.evaluate(TOLD)
    text = "\n".join(told)
    assert (site.foreign, site.complaints) == ([], [])
    assert (still, frames) == (True, 0)
    assert not [link for link in links if HOST in unquote_plus(link) or "javascript" in link]
    assert hidden(text) <= {"\n", "\t"}
    assert len(text) < most
    main = page.get_by_test_id("stMain")
    expect(main.locator("img, iframe, object, .katex, script")).to_have_count(0)
    assert page.get_by_test_id("stException").count() == 0
    assert page.context.pages == [page]
    return text


def at(site: Site, carrier_id: str, *, big: bool = False) -> str:
    """The name of a scored position of a response; with `big`, of its largest token."""
    run = site.runs[RUN].open()
    own = carrier.carrier_positions(positions_of(run), carrier_id)
    lengths = own["char_end"] - own["char_start"]
    chosen = own.loc[lengths.idxmax()] if big else own.iloc[0]
    return f"{carrier_id}:{chosen['position']}"


def carrier_with(site: Site, text: str) -> str:
    """The id of the response that says so."""
    run = site.runs[RUN].open()
    return next(c.carrier_id for c in run.carriers() if c.gold == text)


def test_the_overview_beside_a_run_of_a_hostile_name(hostile: Site, window: Page) -> None:
    text = seen(hostile, window, beside=line(ODD), beside_other="control")
    assert f"{line(MODELS[1])} against {line(MODELS[0])}" in text
    assert f"{line(RUN)}: {line(MODELS[1])}" in text
    said = window.get_by_text("no difference of the two is tested")
    for name in (ODD, MODELS[0]):
        expect(said).to_contain_text(line(name))
    expect(said.locator("a, code a, em, strong, [class*=katex]")).to_have_count(0)
    expect(window.locator(".st-key-beside input").first).to_have_value(line(ODD))


@pytest.mark.parametrize("stratum", [Stratum.SUBJECT, Stratum.GENERATOR])
def test_groups_of_hostile_labels_are_text(hostile: Site, window: Page, stratum: Stratum) -> None:
    text = seen(hostile, window, "deltas", by=stratum_label(stratum))
    for label in TEXTS if stratum is Stratum.SUBJECT else TEXTS[::9]:
        assert f"group: {line(label)}; " in text, label
    mark = window.locator(f'path[aria-label*="group: {IMAGE}"]').first
    if stratum is Stratum.SUBJECT:
        mark.hover(force=True)
        tip = window.locator("#vg-tooltip-element")
        expect(tip).to_contain_text(IMAGE)
        expect(tip.locator("img")).to_have_count(0)
        mark.click(force=True)
        window.get_by_text(f"In {IMAGE}").wait_for()
        settle(window)
    pills = " ".join(window.get_by_test_id("stSidebarContent").all_text_contents())
    for label in TEXTS:
        assert " ".join(line(label).split()) in " ".join(pills.split()), label
    calm(hostile, window)


@pytest.mark.parametrize("text", [ESCAPES, BIDI, TEXTS[0], TEXTS[12]])
def test_an_example_of_a_hostile_response_is_text(hostile: Site, window: Page, text: str) -> None:
    name = carrier_with(hostile, text)
    told = seen(hostile, window, "examples", at=at(hostile, name))
    context = window.locator(".st-key-example_context code")
    expect(context).to_contain_text("⟧")
    assert plain(text).split("⟦")[0] in told
    assert line(name) in told


def test_a_token_of_a_megabyte_is_shown_short(hostile: Site, window: Page) -> None:
    told = seen(hostile, window, "examples", at=at(hostile, "big", big=True))
    short = f"{BIG[: LONGEST_TOKEN - 1]}… ({len(BIG) + 1:,} characters)"
    expect(window.locator(".st-key-example_context code")).to_contain_text(f"⟦␣{short}⟧")
    assert f"␣{short}" in told.split("⟧")[-1]
    # Of the response itself nothing is left out but what the scored token has too much.
    whole = seen(hostile, window, "carrier", at=at(hostile, "big", big=True), most=2_200_000)
    assert whole.count(short) > 1


def test_hostile_formulas_stay_source_on_request_too(hostile: Site, window: Page) -> None:
    name = carrier_with(hostile, TEXTS[9])
    seen(hostile, window, "examples", at=at(hostile, name))
    context = window.locator(".st-key-example_context code").inner_text()
    switch(window, "example_formulas")
    rendered = [one for one in formulas(context) if not one.refused]
    main = window.get_by_test_id("stMain")
    expect(main.get_by_text("Not rendered: ").first).to_be_visible()
    expect(main.locator(".katex-html")).to_have_count(len(rendered))
    expect(main.locator(".katex a, .katex img, .katex-error, img")).to_have_count(0)
    assert window.evaluate("window.hacked") is None
    assert (hostile.foreign, hostile.complaints) == ([], [])


def test_a_hostile_response_is_text_and_answers_clicks(hostile: Site, window: Page) -> None:
    for text in (ESCAPES, IMAGE):
        name = carrier_with(hostile, text)
        told = seen(hostile, window, "carrier", carrier=line(name))
        assert f"Response {line(name)}." in told
        expect(window.locator(".st-key-carrier input").first).to_have_value(line(name))
    box = window.locator(".response .text")
    expect(box).to_contain_text(f"Wait, so {IMAGE} it is.")
    expect(box.locator("img, script, a, svg, iframe")).to_have_count(0)
    token = window.locator(".response .token", has_text=IMAGE).first
    token.click()
    expect(window.locator(".response .says")).to_contain_text(IMAGE)
    window.wait_for_function("name => location.search.includes(name)", arg="%3A")
    settle(window)
    assert parse_qs(urlsplit(window.url).query)["at"][0].startswith(f"{name}:")
    calm(hostile, window)
    siblings = window.get_by_test_id("stDataFrame").last
    siblings.scroll_into_view_if_needed()
    place = siblings.bounding_box()
    assert place is not None
    # The grid is a canvas: the box before its first row.
    window.mouse.click(place["x"] + 18, place["y"] + 35 + 17)
    settle(window)
    expect(window.locator(".st-key-carrier input").first).not_to_have_value(line(name))
    expect(window.locator(".response .text")).to_contain_text("Wait, so ")
    calm(hostile, window)


def test_what_people_note_is_text_beside_the_form(hostile: Site, window: Page) -> None:
    run = hostile.runs[RUN].open()
    file = LabelFile.beside(run.location)
    assert file is not None
    every = file.read().labels
    told = seen(hostile, window, "examples", at=every[0].position)
    for given in every:
        assert line(given.note) in told
        assert line(given.who) in told


def test_the_mechanism_of_models_of_hostile_names(hostile: Site, window: Page) -> None:
    wanted = {"curves_wanted": "true", "either_text": "true", "sweep": "lock_top1"}
    told = seen(hostile, window, "mechanism", **wanted, multiverse_wanted="true")
    for name in MODELS[1:]:
        assert f"Verdict on {line(name)}" in "".join(told.split("\n"))
        assert f"comparison: {line(name)}" in told
    for drawn in ("Mass of the likeliest tokens", "On whose text?", "Does it hang on a threshold?"):
        assert drawn in told
    combined = multiverse_table(hostile.runs[RUN].open(), MODELS[1])
    assert downloaded(window, "multiverse_csv") == export.csv_text(combined)


def test_the_methods_tell_hostile_provenance_as_text(hostile: Site, window: Page) -> None:
    told = seen(hostile, window, "methods")
    skipped = methods.skipped_rows(hostile.runs[RUN].open())
    for column in ("reason", "detail"):
        for text in skipped[column]:
            assert line(text) in told
    assert f"{IMAGE} {line(ESCAPES)}" in told
    assert f"in {line(BIDI)}, {IMAGE}" in told
    for text in TEXTS[:18]:
        assert line(text) in told


CONTROLS = """
() => Object.fromEntries([...document.querySelectorAll('[class*="st-key-"]')].map(one => [
    one.className.match(/st-key-(\\S+)/)[1],
    [
        ...[...one.querySelectorAll('input')].map(input =>
            input.type === 'checkbox' ? input.checked : input.value),
        ...[...one.querySelectorAll('[data-testid$=Active], [data-baseweb=tag], [data-tag-index]')]
            .map(chosen => chosen.textContent),
    ],
]))
"""
"""What every control of a page says, by its key."""

NOWHERE = "../../../etc/passwd"
SIDEBAR = {
    "other": "baseline",
    "control": "__proto__",
    "greedy": "maybe",
    "temperature": "-3",
    "top_k": "inf",
    "top_p": "nan",
    "preset": IMAGE,
    "assignment": "[]",
    "kinds_follow": "{}",
    "average": "\u202e",
    "selector": "a" * 5000,
    "kind": [IMAGE, "lock"],
    "event": [NOWHERE, "\n"],
    "subject": [IMAGE, "\x00"],
    "correct": ["1", "null"],
}
PAGES: dict[str, dict[str, str | list[str]]] = {
    "": {"beside": "/etc/passwd", "beside_other": NOWHERE},
    "deltas": {"by": ["x", NOWHERE], "quantities": [IMAGE, "delta"]},
    "examples": {
        "example_by": "__class__",
        "example_order": IMAGE,
        "example_seed": "1e400",
        "example": "999999999999",
        "example_labels": NOWHERE,
    },
    "carrier": {"carrier": NOWHERE, "colored_by": "constructor", "colored_value": "7"},
    "mechanism": {
        "train_temperature": "nan",
        "train_top_k": "-inf",
        "train_top_p": "7",
        "sweep": NOWHERE,
        "curves_wanted": "2",
        "multiverse_wanted": "\x00",
    },
}
"""By page and control, what no control can mean."""


@pytest.mark.parametrize("place", PAGES)
def test_what_no_control_can_mean_is_as_if_not_asked(
    hostile: Site, window: Page, place: str
) -> None:
    seen(hostile, window, place, run=line(ODD))
    usual = window.evaluate(CONTROLS)
    assert {*PAGES[place]} - {"beside_other"} <= {*usual}
    seen(hostile, window, place, **SIDEBAR, **PAGES[place], run=line(ODD))
    assert window.evaluate(CONTROLS) == usual
