from __future__ import annotations

import pytest
from tests.fixtures.openadr_schema import ABSENT, FOLDER, OpenAdrSchema, published


@pytest.fixture(scope="session")
def schema() -> OpenAdrSchema:
    if not FOLDER.is_dir():
        pytest.skip(ABSENT)
    return published()
