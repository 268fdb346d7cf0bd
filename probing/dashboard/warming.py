"""What the first page shows of the first run is made when the server starts, not for a visitor."""

import logging
import threading
import time
from collections.abc import Callable, Mapping

from streamlit.runtime import Runtime

from probing.analysis.decoding import make_ready
from probing.dashboard.freezing import freeze_what_is_there
from probing.reporting.text import plain

LOGGER = logging.getLogger(__name__)

WITHOUT_PAGE = "streamlit.runtime.scriptrunner_utils.script_run_context"
"""Streamlit's logger that warns of controls drawn for nobody, as they are here."""


def begin(listed: Callable[[], Mapping[str, str]]) -> None:
    """Do so beside answering, which must not wait for it.

    Args:
        listed: locations of runs by name.
    """

    def work() -> None:
        make_ready()
        while not Runtime.exists():
            time.sleep(0.05)
        warm(listed)
        freeze_what_is_there()

    threading.Thread(target=work, daemon=True, name="make-ready").start()


def warm(listed: Callable[[], Mapping[str, str]]) -> None:
    """Open the run that is listed first and make what its overview shows as it opens.

    What cannot be opened or answered is told on the page.

    Args:
        listed: locations of runs by name.
    """
    own = threading.current_thread().name
    logging.getLogger(WITHOUT_PAGE).addFilter(lambda record: record.threadName != own)
    # Their caches look for the runtime.
    from probing.dashboard import controls, overview_tables

    runs = listed()
    if runs:
        try:
            overview_tables.overview(controls.choose(runs))
        except Exception as error:
            LOGGER.warning("The first page was not made beforehand: %s", plain(str(error)))
