"""Debian's Chromium, driven by playwright, and what a page must not do in it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

WAIT_MS = 120_000
"""Limit for what takes a second on an idle machine, ms."""
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
_RULES = """async () => {
  const found = await axe.run(document, {
    preload: false, // it would fetch the style sheets, which a page from a folder may not
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
  });
  return found.violations.map(
    (rule) => rule.id + ": " + rule.nodes.map((node) => node.target.join(" ")).join(", ")
  );
}"""


@dataclass
class Tab:
    """A page in the browser, and what it wrote to the console."""

    page: Page
    problems: list[str] = field(default_factory=list)

    async def open(self, url: str) -> None:
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("console", lambda message: self._note(message.type, message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        await self.page.goto(url)

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.problems.append(text)

    async def text(self, selector: str) -> str:
        return await self.page.inner_text(selector)

    async def value(self, figure: str) -> float:
        found = await self.page.get_attribute(f"#figure-{figure}", "data-value")
        assert found, figure
        return float(found)

    async def rows(self, table: str) -> list[list[str]]:
        script = """(rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent))"""
        found: list[list[str]] = await self.page.eval_on_selector_all(f"{table} tbody tr", script)
        return found

    async def axe(self) -> list[str]:
        """Return what is not accessible."""
        if not await self.page.evaluate("'axe' in window"):
            await self.page.evaluate(AXE.read_text())  # the policy allows no injected script
        found: list[str] = await self.page.evaluate(_RULES)
        return found

    async def width(self) -> int:
        """Return how wide the content is, in CSS pixels."""
        found: int = await self.page.evaluate("document.documentElement.scrollWidth")
        return found


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    """Yield the browser; skip the test where it is not installed."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs the Debian package chromium")
    api: Any = pytest.importorskip(
        "playwright.async_api", reason="needs playwright, of the extra deploy"
    )
    async with api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()
