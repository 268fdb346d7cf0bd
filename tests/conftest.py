"""What every test shares: quiet libraries, repeatable examples, and one run of known logits."""

import os
import signal
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

# Before anything imports the libraries that read them.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:
    # There is a worker a core. Threads of their own wait for each other: 2.7 times the time.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    import pandas as pd
    from browsing import Site
    from pages_run import PagesRun
    from playwright.sync_api import Page

    from probing.store.reader import Run

settings.register_profile("ci", derandomize=True, deadline=None, max_examples=30, database=None)
settings.register_profile("wide", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# Where tests run in the background Ctrl-C may be ignored, which what they start would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

# This file is loaded before the hook that checks shapes is: it may import `probing` only later.


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever asks somebody else fails."""

    def refuse(*asked: object) -> None:
        raise AssertionError(f"this went to the network: {asked}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> "PagesRun":
    from pages_run import write_pages_run

    return write_pages_run(tmp_path_factory.mktemp("pages") / "pages.zarr")


@pytest.fixture(scope="session")
def run(written: "PagesRun") -> "Run":
    return written.open()


@pytest.fixture(scope="session")
def comparison(run: "Run") -> "pd.DataFrame":
    from probing.reporting import tables
    from probing.settings import Decoding, KindRule

    return tables.comparison_table(run, other="ssd", decoding=Decoding(), rule=KindRule())


@pytest.fixture(scope="session")
def warm(run: "Run") -> "pd.DataFrame":
    from pages_run import WARM

    from probing.reporting import tables
    from probing.settings import KindRule

    return tables.comparison_table(run, other="control", decoding=WARM, rule=KindRule())


@pytest.fixture(scope="session")
def trio(run: "Run") -> "dict[str, pd.DataFrame]":
    from probing.reporting import tables
    from probing.settings import Decoding, KindRule

    return tables.all_comparisons(
        run, other="ssd", control="control", decoding=Decoding(), rule=KindRule()
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Site]":
    from browsing import opened_site

    with opened_site(tmp_path_factory.mktemp("site")) as found:
        yield found


@pytest.fixture
def page(site: "Site") -> "Iterator[Page]":
    site.foreign.clear()
    site.complaints.clear()
    found = site.visit()
    yield found
    found.context.close()
    assert site.foreign == []
    assert site.complaints == []
