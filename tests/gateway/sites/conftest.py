from __future__ import annotations

from pathlib import Path

import pytest
from tests.gateway.site import SiteFactory
from tests.gateway.sites.other_site import SitesMaker


@pytest.fixture
def make_sites(tmp_path: Path, open_site: SiteFactory) -> SitesMaker:
    return SitesMaker(tmp_path, open_site)
