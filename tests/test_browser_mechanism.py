"""The page *Mechanism* in a real browser: its figures are the store's, for whatever is asked."""

import dataclasses
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
from browsing import Site, downloaded, enter, parsed, press, settle, switch
from playwright.sync_api import Page, expect

from probing.reporting import evidence, tables
from probing.reporting.filters import Filters
from probing.reporting.mechanism import Asked, Found
from probing.settings import Training

pytestmark = pytest.mark.browser

DEFAULT = Asked(training=Training.told())


def weighed(site: Site, asked: Asked) -> tuple[dict[str, Found], pd.DataFrame]:
    run = site.runs["pages.zarr"].open()
    found = tables.mechanism(run, ("ssd", "control"), asked=asked)
    return found.models, tables.evidence_table(found, asked=asked)


def opened(site: Site) -> Page:
    page = site.visit("run=pages.zarr", place="mechanism")
    page.get_by_role("heading", name="Does it hang on settings?").wait_for()
    settle(page)
    return page


def check(page: Page, found: dict[str, Found], table: pd.DataFrame) -> None:
    for name, one in found.items():
        card = page.locator("[data-testid=stVerticalBlock]", has_text=f"Verdict on {name}").last
        expect(card).to_contain_text(str(one.verdict.mechanism))
        expect(card).to_contain_text(one.verdict.rule)
    got = parsed(downloaded(page, "evidence_csv"))
    for column in table.columns:
        if pd.api.types.is_numeric_dtype(table[column]):
            pd.testing.assert_series_equal(got[column], table[column], check_dtype=False, rtol=1e-9)
        else:
            assert got[column].fillna("").tolist() == table[column].tolist(), column
    main = page.get_by_test_id("stMain")
    for figure in evidence.CHARTED:
        expect(main).to_contain_text(evidence.sentence(table, figure))


def test_evidence_is_that_of_the_store(site: Site) -> None:
    page = opened(site)
    found, table = weighed(site, DEFAULT)
    check(page, found, table)
    main = page.get_by_test_id("stMain")
    expect(main).to_contain_text("Left at what the page assumes: temperature, top-k, top-p.")
    expect(main).to_contain_text("T 1.1 (assumed), top-k 20 (assumed), top-p 0.95 (assumed)")
    run = site.runs["pages.zarr"].open()
    for key, builder in (
        ("progress_csv", tables.progress_table),
        ("beside-temperature_csv", tables.beside_temperature),
    ):
        got = parsed(downloaded(page, key))
        for name, one in found.items():
            want = builder(run, name, one, asked=DEFAULT)
            own = got[got["comparison"] == name].drop(columns="comparison")
            pd.testing.assert_frame_equal(
                own.reset_index(drop=True), want, check_dtype=False, rtol=1e-9
            )
    page.context.close()


def test_training_and_filters_change_it_and_kinds_do_not(site: Site) -> None:
    page = opened(site)
    enter(page, "train_temperature", "1.5")
    enter(page, "train_top_p", "0.8")
    press(page, "generator", "ssd")
    asked = Asked(
        training=Training.told(temperature=1.5, top_p=0.8), filters=Filters(generator=("ssd",))
    )
    found, table = weighed(site, asked)
    check(page, found, table)
    expect(page.get_by_test_id("stMain")).to_contain_text("Left at what the page assumes: top-k.")
    press(page, "kind", "fork-like")
    check(page, found, table)
    query = parse_qs(urlsplit(page.url).query)
    assert (query["train_temperature"], query["train_top_p"]) == (["1.5"], ["0.8"])
    page.context.close()


def test_what_takes_long_is_asked_for(site: Site) -> None:
    page = opened(site)
    expect(page.locator(".st-key-texts")).to_have_count(0)
    switch(page, "either_text")
    got = parsed(downloaded(page, "evidence-by-text_csv"))
    for generator in ("baseline", "ssd"):
        asked = dataclasses.replace(DEFAULT, filters=Filters(generator=(generator,)))
        _, table = weighed(site, asked)
        own = got[got["text"] == generator]["estimate"].reset_index(drop=True)
        pd.testing.assert_series_equal(own, table["estimate"], rtol=1e-9)
    page.context.close()


def test_samples_without_a_target_are_refused_in_words(site: Site) -> None:
    page = opened(site)
    enter(page, "train_top_k", "0")
    enter(page, "train_top_p", "0.99")
    expect(page.get_by_test_id("stMain")).to_contain_text("have no target here")
    expect(page.get_by_test_id("stMain")).to_contain_text("must lie within the candidates")
    page.context.close()
