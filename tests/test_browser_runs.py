"""Two runs on one page, and what leaves by buttons: Parquet and the report."""

import io
from pathlib import Path

import pandas as pd
import pytest
from browsing import Site, View, choose, compared, downloaded, expected_deltas, parsed, press
from playwright.sync_api import Page, expect

from probing.dashboard.two_runs import CHARTED
from probing.reporting import filters, tables
from probing.reporting.contrasts import COMPARISON
from probing.reporting.provenance import Compared
from probing.reporting.quantities import QUANTITIES, delta_column
from probing.reporting.report_file import report_text
from probing.settings import DEFAULT_REPORT_EXAMPLES, Decoding, KindRule, Training

pytestmark = pytest.mark.browser


def test_another_run_stands_beside_this_one(site: Site, page: Page) -> None:
    choose(page, "beside", "small.zarr")
    found = parsed(downloaded(page, "two-runs_csv"))
    for run in ("pages.zarr", "small.zarr"):
        own = found[found[COMPARISON] == f"{run}: ssd"].set_index(["kind", "quantity"])
        table = expected_deltas(site, View(run=run, control=None))
        wanted = table[table["quantity"].isin(CHARTED)].set_index(["kind", "quantity"])
        assert len(own) == len(wanted)
        for name in ("delta", "low", "high", "null", "null_drift"):
            pd.testing.assert_series_equal(
                own[name], wanted.loc[own.index, name], check_dtype=False, rtol=1e-9, atol=1e-12
            )
    problems = [
        set(filters.keep(compared(site, View(run=run))["ssd"], filters=View().kept)["problem_id"])
        for run in ("pages.zarr", "small.zarr")
    ]
    said = (
        f"{len(problems[0]):,} problems here, {len(problems[1]):,} in small.zarr, "
        f"{len(problems[0] & problems[1]):,} in both"
    )
    expect(page.get_by_text(said)).to_be_visible()
    assert "beside=small.zarr" in page.url
    press(page, "kind", "lock-like")
    kinds = parsed(downloaded(page, "two-runs_csv"))["kind"]
    assert set(kinds) == {"all", "lock-like"}


def test_a_run_without_the_label_of_a_filter_says_so(site: Site) -> None:
    page = site.visit("beside=bundled.zarr&subject=nowhere")
    expect(page.locator("h1")).to_be_visible()
    length = page.locator(".st-key-length [role] button:visible").first.text_content()
    page = site.visit(f"beside=bundled.zarr&length={length}")
    expect(page.get_by_text("That run cannot answer these settings.")).to_be_visible()
    page.context.close()


def test_the_positions_under_filters_leave_as_parquet(site: Site, page: Page) -> None:
    press(page, "kind", "fork-like")
    page.get_by_role("link", name="Examples", exact=True).click()
    page.locator("h1", has_text="Examples").wait_for()
    with page.expect_download() as waiting:
        page.locator(".st-key-positions_parquet button:visible").click()
    found = pd.read_parquet(io.BytesIO(Path(waiting.value.path()).read_bytes()))
    run = site.runs["pages.zarr"].open()
    every = tables.all_comparisons(
        run,
        other="ssd",
        control="control",
        decoding=Decoding(),
        rule=KindRule(),
    )
    kept = filters.Filters(kind=("fork-like",))
    wanted = {name: filters.keep(frame, filters=kept) for name, frame in every.items()}
    assert found[COMPARISON].value_counts().to_dict() == {
        name: len(frame) for name, frame in wanted.items() if len(frame)
    }
    for name, frame in wanted.items():
        own = found[found[COMPARISON] == name]
        assert own["row"].tolist() == frame["row"].tolist()
        for quantity in QUANTITIES:
            column = delta_column(quantity)
            pd.testing.assert_series_equal(
                own[column].reset_index(drop=True),
                frame[column].reset_index(drop=True),
                check_dtype=False,
            )


def test_the_report_of_the_button_is_that_of_the_command(site: Site) -> None:
    page = site.visit("run=small.zarr&train_temperature=1.3", place="mechanism")
    with page.expect_download() as waiting:
        page.locator(".st-key-report button:visible").click()
    name = waiting.value.suggested_filename
    assert name == "small-report.html"
    asked = Compared(
        other="ssd",
        control="control",
        training=Training.told(temperature=1.3, top_k=None, top_p=None),
        decoding=Decoding(),
        rule=KindRule(),
        examples=DEFAULT_REPORT_EXAMPLES,
    )
    text = Path(waiting.value.path()).read_text(encoding="utf-8")
    assert text == report_text(site.runs["small.zarr"].open(), asked=asked, target=name)
    page.context.close()
