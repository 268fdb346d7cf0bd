"""Random numbers for one carrier."""

import hashlib

import numpy as np


def carrier_rng(seed: int, carrier_id: str) -> np.random.Generator:
    """A generator that depends on the seed and the carrier's id, and on no other carrier.

    So adding, removing or reordering carriers leaves the positions of the others where they are.
    """
    # Ids come from JSON, where lone surrogates are possible.
    named = f"{seed}:{carrier_id}".encode("utf-8", errors="surrogatepass")
    return np.random.default_rng(int.from_bytes(hashlib.sha256(named).digest()))
