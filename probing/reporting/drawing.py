"""Charts as inline SVG: drawn by vl-convert without a browser, cut down to shapes and text."""

import re
from collections.abc import Mapping
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
    # Descriptions of marks put names into Vega's expressions, which read backslashes as escapes.
    "aria": False,
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


LOCAL = re.compile(r"url\(#([^)]*)\)")


def require_drawing() -> None:
    """Ask for what draws charts, before any work is done.

    Raises:
        MissingPackage: vl-convert-python is not installed.
    """
    try:
        import vl_convert  # noqa: F401
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
    from vl_convert import vegalite_to_svg

    spec = _still(chart.properties(width=width).to_dict())
    spec["config"] = CONFIG
    drawn = vegalite_to_svg(spec, allowed_base_urls=[])
    root = ElementTree.fromstring(drawn)
    # Vega counts ids over all that a process draws: here each chart counts its own.
    found = dict.fromkeys(node.attrib["id"] for node in root.iter() if "id" in node.attrib)
    ids = {old: f"{name}-{place}" for place, old in enumerate(found)}
    return _element(root, ids=ids, extra=f' role="img" aria-label="{escape(line(title))}"')


def _still(value: Any) -> Any:
    """The same specification as a still picture that any XML can hold.

    Tooltips go: no picture shows them, and they would put names into expressions. What is hidden is
    escaped in all texts.
    """
    if isinstance(value, dict):
        return {key: _still(each) for key, each in value.items() if key != "tooltip"}
    if isinstance(value, list):
        return [_still(each) for each in value]
    return line(value) if isinstance(value, str) else value


def _element(node: ElementTree.Element, *, ids: Mapping[str, str], extra: str = "") -> str:
    """One element and what is in it, as HTML; empty if it is none that may stand there."""
    tag = node.tag.rpartition("}")[2]
    if tag not in ELEMENTS or node.get("display") == "none":
        return ""
    attributes = "".join(
        f' {key}="{escape(value)}"'
        for key, value in _attributes(node, ids=ids).items()
        if key in ATTRIBUTES
    )
    inside = "".join(_element(child, ids=ids) for child in node)
    text = escape(line(node.text)) if tag in {"text", "tspan"} and node.text else ""
    if tag == "g" and not inside:
        return ""
    return f"<{tag}{attributes}{extra}>{text}{inside}</{tag}>"


def _attributes(node: ElementTree.Element, *, ids: Mapping[str, str]) -> dict[str, str]:
    """Attributes with this chart's own ids; those that point elsewhere are left out."""
    found = {key: line(value) for key, value in node.attrib.items() if "url(" not in value}
    if "id" in node.attrib:
        found["id"] = ids[node.attrib["id"]]
    pointed = LOCAL.fullmatch(node.get("clip-path", ""))
    if pointed and pointed[1] in ids:
        found["clip-path"] = f"url(#{ids[pointed[1]]})"
    return found
