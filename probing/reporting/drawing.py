"""Charts as inline SVG: drawn by vl-convert without a browser, cut down to shapes and text."""

from html import escape
from typing import Any
from xml.etree import ElementTree

import altair as alt

from probing.errors import MissingPackage
from probing.reporting.charts import NEUTRAL
from probing.reporting.text import line

# A reader's font may be wider than the one that the drawing was measured with: hence padding.
INK = "currentColor"
"""Text takes the colour of the page around it, light or dark."""

CONFIG: dict[str, Any] = {
    "background": None,
    "padding": {"left": 20, "right": 14, "top": 5, "bottom": 5},
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "titleFontWeight": "normal",
        "domainColor": NEUTRAL,
        "tickColor": NEUTRAL,
        "gridColor": NEUTRAL,
        "labelFontSize": 12,
        "titleFontSize": 12,
    },
    "legend": {"labelColor": INK, "titleColor": INK, "labelFontSize": 12},
}

ELEMENTS = frozenset({"svg", "g", "path", "line", "rect", "text", "tspan", "defs", "clipPath"})
ATTRIBUTES = frozenset(
    {
        "clip-path", "cx", "cy", "d", "dominant-baseline", "dx", "dy", "fill", "fill-opacity",
        "font-size", "font-style", "font-weight", "height", "id", "opacity", "r", "rx", "ry",
        "stroke", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "stroke-miterlimit",
        "stroke-opacity", "stroke-width", "text-anchor", "transform", "viewBox", "width", "x", "x1",
        "x2", "y", "y1", "y2",
    }
)  # fmt: skip
"""What may stand in a chart. Nothing else of a drawing is kept: no link, script, style or image."""


def require_drawing() -> None:
    """Ask for what draws charts, before any work is done.

    Raises:
        MissingPackage: vl-convert-python is not installed.
    """
    try:
        import vl_convert  # noqa: F401, PLC0415
    except ImportError as error:
        raise MissingPackage(
            "charts of an HTML report need the package vl-convert-python, which is not installed; "
            "run `pip install 'ssd-probing[report]'`, or write Markdown, which has no charts"
        ) from error


def chart_svg(chart: alt.LayerChart, *, title: str, width: int, name: str) -> str:
    """A chart as an `svg` element for a page; the same chart gives the same text.

    Args:
        chart: of `charts`.
        title: read aloud in place of the picture.
        width: of the plot in pixels, without its labels.
        name: tells its ids from those of the page's other charts.

    Raises:
        MissingPackage: vl-convert-python is not installed.
    """
    require_drawing()
    from vl_convert import vegalite_to_svg  # noqa: PLC0415

    spec = _without_controls(chart.properties(width=width).to_dict())
    spec["config"] = CONFIG
    drawn = vegalite_to_svg(spec, allowed_base_urls=[])
    root = ElementTree.fromstring(drawn)  # noqa: S314
    return _element(root, name=name, extra=f' role="img" aria-label="{escape(line(title))}"')


def _without_controls(value: Any) -> Any:
    """The same specification; characters that no XML can hold are escaped in all its texts."""
    if isinstance(value, dict):
        return {key: _without_controls(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_controls(each) for each in value]
    return line(value) if isinstance(value, str) else value


def _element(node: ElementTree.Element, *, name: str, extra: str = "") -> str:
    """One element and what is in it, as HTML; empty if it is none that may stand there."""
    tag = node.tag.rpartition("}")[2]
    if tag not in ELEMENTS or node.get("display") == "none":
        return ""
    attributes = "".join(
        f' {key}="{escape(_own(key, value, name=name))}"'
        for key, value in node.attrib.items()
        if key in ATTRIBUTES and ("url(" not in value or value.startswith("url(#"))
    )
    inside = "".join(_element(child, name=name) for child in node)
    text = escape(line(node.text)) if tag in {"text", "tspan"} and node.text else ""
    if tag == "g" and not inside:
        return ""
    return f"<{tag}{attributes}{extra}>{text}{inside}</{tag}>"


def _own(key: str, value: str, *, name: str) -> str:
    """An attribute's value; ids are made this chart's own."""
    if key == "id":
        return f"{name}-{line(value)}"
    if key == "clip-path":
        return line(value.replace("url(#", f"url(#{name}-"))
    return line(value)
