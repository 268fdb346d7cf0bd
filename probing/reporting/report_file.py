"""A report as the text of a file: HTML or Markdown, by the name that the file will have."""

from pathlib import Path

from probing.errors import MissingPackage
from probing.reporting.drawing import require_drawing
from probing.reporting.provenance import Compared
from probing.reporting.report import report
from probing.reporting.report_html import html_text
from probing.reporting.report_markdown import markdown_text
from probing.store.reader import Run

HTML, MARKDOWN = ".html", ".md"


def report_text(run: Run, *, asked: Compared, target: str) -> str:
    """The whole report.

    Args:
        run: the run.
        asked: what is asked of it.
        target: name of the file, ending in `HTML` or `MARKDOWN`.

    Raises:
        MissingPackage: an HTML report where nothing can draw its charts.
        UsageFault, NoCarriersLeft, OutsideContract: as `report`.
    """
    html = Path(target).suffix.lower() == HTML
    if html:
        require_drawing()
    made = report(run, asked=asked, target=target)
    return html_text(made) if html else markdown_text(made)


def best_ending() -> str:
    """HTML where its charts can be drawn, else Markdown."""
    try:
        require_drawing()
    except MissingPackage:
        return MARKDOWN
    return HTML
