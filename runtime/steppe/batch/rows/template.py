"""A Jinja template that makes the text of a prompt from the fields of a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from steppe.errors import UsageError

if TYPE_CHECKING:
    from jinja2 import Environment, nodes


class TemplateRowError(Exception):
    """A record does not fit the template."""


@lru_cache(maxsize=8)
def compiled(template: str) -> Callable[[Mapping[str, Any]], str]:
    """Return a function from the fields of a record to the text.

    It runs in Jinja's sandbox: a template reads fields and calls no Python. A field that a record
    does not have is an error of this record.

    Raises:
        UsageError: It is no template.
    """
    from jinja2 import TemplateError

    environment = _environment()
    parsed = environment.from_string(_parsed(environment, template))

    def text(record: Mapping[str, Any]) -> str:
        try:
            return parsed.render(record)
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise TemplateRowError(f"the template does not fit: {error}") from error

    return text


def variables(template: str) -> frozenset[str]:
    """Return the fields that a template reads.

    Raises:
        UsageError: It is no template.
    """
    from jinja2 import meta

    return frozenset(meta.find_undeclared_variables(_parsed(_environment(), template)))


def _environment() -> Environment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )


def _parsed(environment: Environment, template: str) -> nodes.Template:
    from jinja2 import TemplateSyntaxError

    try:
        return environment.parse(template)
    except TemplateSyntaxError as error:
        message = f"asked for a Jinja template, found in line {error.lineno}: {error.message}"
        raise UsageError(message) from error
