from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.fixtures.openadr_schema import ABSENT, FOLDER, OpenAdrSchema, published
from tests.fixtures.openadr_vtn import OpenAdrVtn, no_check


@pytest.fixture(scope="session")
def schema() -> OpenAdrSchema:
    if not FOLDER.is_dir():
        pytest.skip(ABSENT)
    return published()


@pytest.fixture
async def vtn() -> AsyncIterator[OpenAdrVtn]:
    """A server that checks its messages where the schema is there."""
    check = published().check if FOLDER.is_dir() else no_check
    async with OpenAdrVtn(check) as server:
        yield server
