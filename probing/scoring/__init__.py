"""Every model's distribution at the chosen positions: the only torch code."""
