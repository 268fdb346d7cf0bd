"""Opening a run and building every table needs no torch, transformers or Streamlit."""

import subprocess
import sys
from pathlib import Path

import pytest
from pages_run import write_pages_run

HEAVY = ("torch", "transformers", "peft", "streamlit")

EVERY_TABLE = """
from probing.reporting import charts, display, export, headlines, provenance, shares, tables
from probing.reporting.drifting import DriftAsked
from probing.reporting.filters import Filters, Weighting
from probing.reporting.remaking import TableSettings, made_again
from probing.reporting.report import report
from probing.reporting.report_html import html_text
from probing.reporting.report_markdown import markdown_text
from probing.settings import Decoding, KindRule, Training
from probing.store.reader import open_run
from probing.vocabulary import Stratum

run = open_run({location!r})
decoding, rule = Decoding(temperature=1.2), KindRule()
compared = tables.all_comparisons(
    run, other="ssd", control="control", decoding=decoding, rule=rule
)
comparison, by = compared["ssd"], [Stratum.KIND]
tables.position_table(run, decoding=decoding, rule=rule)
deltas = tables.delta_tables(compared, by=by)
example = tables.example_table(run, 0, other="ssd", control="control", decoding=decoding)
charts.delta_chart(deltas, quantity="top1_prob", by=by).to_dict()
charts.shares_chart(tables.kind_shares(comparison)).to_dict()
transitions, events = tables.transition_tables(compared), tables.event_tables(compared)
[chart.to_dict() for chart in charts.transition_charts(transitions).values()]
tables.assignment_tables(compared)
shares.shown_events(events), shares.shown_transitions(transitions)
tables.position_list(run, comparison.head(), by="top1_prob", compared=compared)
headlines.headlines(deltas)
drift = tables.drift_null(run, DriftAsked(other="ssd", control="control", decoding=decoding))
headlines.sentence(headlines.headline_tables(compared, drift=drift), other="ssd")
labelled = display.labelled_deltas(deltas, by=by)
display.shown_deltas(labelled, by=by), display.printed_deltas(deltas, by=by)
display.shown_example(example), tables.shown_context(run, 0)
asked = TableSettings(
    table="events", other="ssd", control=None, decoding=decoding, kind_decoding=decoding,
    kind_rule=rule, filters=Filters(), weighting=Weighting(),
)
export.csv_text(made_again(run, export.settings_json(run, asked=asked)))
compared = provenance.Compared(
    other="ssd", control="control", training=Training(), decoding=decoding, rule=rule, examples=1
)
whole = report(run, asked=compared, target="r.html")
html_text(whole), markdown_text(whole)
"""

REPORT = """
import sys
print(" ".join(name for name in {heavy!r} if name in sys.modules))
"""


def heavy_imports(program: str) -> list[str]:
    """Which heavy packages a program has imported at its end, in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", program + REPORT.format(heavy=HEAVY)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    return done.stdout.split()


def test_every_table_is_made_without_heavy_packages(tmp_path: Path) -> None:
    location = str(tmp_path / "light.zarr")
    write_pages_run(Path(location), problems=2)
    assert heavy_imports(EVERY_TABLE.format(location=location)) == []


@pytest.mark.parametrize("name", HEAVY)
def test_the_check_can_fail(name: str) -> None:
    assert name in heavy_imports(f"import {name}\n")
