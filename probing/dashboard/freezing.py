"""Objects that stay are kept out of the garbage collector's way.

Streamlit collects over all objects after every run of its script; over those of the libraries alone
that takes a third of a second, longer than most visits compute.
"""

import gc


def freeze_what_is_there() -> None:
    """Let collections pass over every object that is there now; freed ones are freed all the same.

    What is not in use any more goes first.
    """
    gc.collect()
    gc.freeze()
