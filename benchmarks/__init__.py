"""One file for each claim about speed, memory or robustness."""
