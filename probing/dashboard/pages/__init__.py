"""Pages, one file and one question each; run by the frame, never imported."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parent
OVERVIEW, DELTAS, EXAMPLES, CARRIER, MECHANISM, METHODS = (
    FOLDER / f"{name}.py"
    for name in ("overview", "deltas", "examples", "carrier", "mechanism", "methods")
)
