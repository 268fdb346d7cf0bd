"""Every page under axe-core, light and dark: nothing serious."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import Site, settle

pytestmark = pytest.mark.browser

PLACES = ("", "deltas", "examples", "carrier", "mechanism", "methods")
SERIOUS = {"serious", "critical"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("place", PLACES)
def test_axe_finds_nothing_serious(site: Site, place: str, scheme: str) -> None:
    page = site.visit("run=small.zarr", scheme=scheme, place=place)
    settle(page)
    found = Axe().run(page).response["violations"]
    page.context.close()
    told = [
        f"{one['id']} ({one['impact']}): {one['help']}: {node['target']} {node['html'][:160]}"
        for one in found
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]
    assert not told, "\n".join(told)
