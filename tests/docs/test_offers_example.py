"""The example of `docs/grid/offers.md` prints what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "grid" / "offers.md"


def test_the_example_of_the_offers_page(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    exec(compile(example, str(PAGE), "exec"), {})
    soon, later, young = capsys.readouterr().out.splitlines()
    assert (soon.strip(), later.strip()) == ("300", "100")
    assert young.startswith("0 too little history: asked for 9 earlier times")
