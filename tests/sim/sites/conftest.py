from __future__ import annotations

import pytest
from tests.fixtures.simulated_sites import Asking, MakeSites, Sites


@pytest.fixture(scope="session")
def make_sites(tmp_path_factory: pytest.TempPathFactory) -> MakeSites:
    """Return a maker of three sites; it takes fields of `Asking`."""
    return lambda **fields: Sites(tmp_path_factory.mktemp("sites"), Asking(**fields))
