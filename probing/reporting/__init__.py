"""Tidy tables, charts, exports over a run."""
