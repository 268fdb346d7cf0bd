"""The page *Methods* in a real browser: what it says is the store's."""

from pathlib import Path

import pandas as pd
import pytest
from browsing import BUNDLED, Site, downloaded, parsed, settle
from pages_run import write_pages_run
from playwright.sync_api import Page, expect

from probing.carriers.record import Skipped
from probing.carriers.sampling import Cell
from probing.reporting import methods
from probing.reporting.quantities import QUANTITIES
from probing.store.noise import NoiseFloor, Spread
from probing.store.reader import Run, open_run

pytestmark = pytest.mark.browser


def opened(site: Site, run: str) -> Page:
    page = site.visit(f"run={run}", place="methods")
    page.get_by_role("heading", name="What the quantities are").wait_for()
    settle(page)
    return page


def check(page: Page, run: Run) -> None:
    main = page.get_by_test_id("stMain")
    tables = {
        "models_csv": methods.model_rows(run),
        "noise-floor_csv": methods.noise_rows(run),
        "sample_csv": methods.sample_rows(run),
        "skipped_csv": methods.skipped_rows(run),
    }
    for key, table in tables.items():
        button = page.locator(f".st-key-{key}")
        if table.empty:
            expect(button).to_have_count(0)
            continue
        got = parsed(downloaded(page, key))
        assert got.columns.tolist() == table.columns.tolist(), key
        for column in table.columns:
            if pd.api.types.is_float_dtype(table[column]):
                assert got[column].tolist() == pytest.approx(table[column].tolist(), nan_ok=True)
            else:
                assert got[column].astype(str).tolist() == table[column].astype(str).tolist()
    expect(main).to_contain_text(run.fingerprint)


def test_what_it_says_is_the_stores(site: Site) -> None:
    page = opened(site, "pages.zarr")
    run = site.runs["pages.zarr"].open()
    check(page, run)
    assert page.locator("[data-testid=stMain] img").count() == 0
    page.context.close()


def test_the_run_that_ships_names_its_models(site: Site) -> None:
    run = open_run(str(BUNDLED))
    changed = methods.model_rows(run)["changed_stored"]
    assert changed.isna().tolist() == [True, False, False]
    page = opened(site, BUNDLED.name)
    check(page, run)
    page.context.close()


def test_floor_sample_and_what_was_left_out_are_those_of_the_run(tmp_path: Path) -> None:
    spreads = [Spread(0.1 * place, 0.2 * place, 0.3 * place) for place in range(1, 5)]
    floor = NoiseFloor(2, 60, 900, *spreads, top1_changed=0.05)
    left_out = (
        Skipped("a.jsonl", 3, "bad JSON", "first"),
        Skipped("a.jsonl", 9, "missing field", "x"),
        Skipped("b.jsonl", 2, "bad JSON", "second"),
    )
    cells = (Cell(("ssd", "right", "short"), 2, 3, 2), Cell(("ssd", "wrong", "short"), 2, 0, 0))
    written = write_pages_run(
        tmp_path / "run.zarr",
        problems=4,
        measured={"noise_floor": floor.to_json()},
        known={"skipped": left_out, "sample": cells},
    )
    run = written.open()
    assert methods.noise_rows(run)[["median", "p95", "maximum"]].to_numpy().tolist() == [
        [each.median, each.p95, each.maximum] for each in spreads
    ]
    assert methods.skipped_rows(run)["line"].tolist() == [3, 9, 2]
    shown = methods.shown_skipped(run)
    assert shown[["Reason", "Records", "First"]].to_numpy().tolist() == [
        ["bad JSON", 2, "a.jsonl:3"],
        ["missing field", 1, "a.jsonl:9"],
    ]
    sample = methods.sample_rows(run)
    assert sample["taken"].tolist() == [2, 0]
    assert sample["correct"].tolist() == ["right", "wrong"]


def test_every_quantity_is_defined() -> None:
    found = methods.definitions()
    assert len(found) == len(QUANTITIES)
    assert (found["What it is"].str.len() > 20).all()
