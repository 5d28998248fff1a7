"""A class of the user's own, named in a configuration as `package.module:Class`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from steppe.errors import ConfigError

ClassPath = Annotated[str, Field(pattern=r"^\w+(\.\w+)*:\w+$")]
"""A class that Python can import, `package.module:Class`."""


def make_object(path: str, settings: Mapping[str, Any], key: str) -> Any:
    """Import a class and create an object of it, `Class(**settings)`.

    Modules in the current directory are found too, as with `python -m`.

    Args:
        path: The class, `package.module:Class`.
        settings: Keyword arguments of its constructor.
        key: The key of the configuration that names it, for the error message.

    Raises:
        ConfigError: There is no such module or class, or the constructor failed.
    """
    module_name, _, class_name = path.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        found = one_line(error)
        raise ConfigError(f"{key}: asked for module {module_name}, found {found}") from error
    made = getattr(module, class_name, None)
    if not isinstance(made, type):
        raise ConfigError(f"{key}: asked for a class {class_name} in {module_name}, found none")
    try:
        return made(**settings)
    except Exception as error:
        raise ConfigError(f"{key}: asked for {path}, found {one_line(error)}") from error


def one_line(error: Exception) -> str:
    """Return an error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
