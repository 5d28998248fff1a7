from __future__ import annotations

import pytest
from tests.fixtures.made_run import MadeRun, make_run


@pytest.fixture(scope="session")
def made_run() -> MadeRun:
    return make_run()
