from __future__ import annotations

import pytest
from tests.fixtures.fake_fleet import modelled_frontier

from steppe.frontier.pareto import Frontier


@pytest.fixture(scope="session")
def frontier() -> Frontier:
    return modelled_frontier()
