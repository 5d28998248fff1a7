"""Every field of a run configuration is documented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest

from steppe.config import FrontierSection, RunConfig, SweepSection
from steppe.config.section import Section


def sections_in(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
        for field in annotation.model_fields.values():
            yield from sections_in(field.annotation)
    for part in get_args(annotation):
        yield from sections_in(part)


@pytest.mark.parametrize("section", sorted(set(sections_in(RunConfig)), key=str))
def test_every_field_has_a_description(section: type[Section]) -> None:
    undescribed = [name for name, field in section.model_fields.items() if not field.description]
    assert undescribed == []
    assert section.__doc__


def test_a_config_without_a_frontier_section_measures_one_with_the_defaults() -> None:
    assert FrontierSection().sweep == SweepSection()
    assert FrontierSection.model_validate({"refine": False}).sweep == SweepSection()
    assert FrontierSection.model_validate({"file": "points.yaml"}).sweep is None
