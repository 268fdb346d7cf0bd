"""Decoding, tail, kinds, deltas, inference: arrays in, arrays out, NumPy and SciPy only."""
