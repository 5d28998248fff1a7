"""Strict YAML: refuses duplicate keys and numbers that YAML 1.1 reads in a surprising way."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from steppe.errors import ConfigError

_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
"""A number such as `5e-5`, which YAML 1.1 reads as text because it lacks a point and a sign."""

_OLD = re.compile(r"[-+]?0[0-7_]+$|.*:")
"""A number such as `010` or `1:30`, which only YAML 1.1 reads as octal or sexagesimal."""


class _Loader(yaml.SafeLoader):
    """Refuses a key given twice in one mapping, and octal and sexagesimal numbers."""

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in lines:
                first = lines[key.value]
                raise ConfigError(f"{key.value}: given in line {first} and again in line {line}")
            lines[key.value] = line
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return the value of a node.

        Raises:
            ConfigError: Its tag, such as `!!bool`, does not fit its text.
        """
        try:
            return super().construct_object(node, deep=deep)
        except (LookupError, AttributeError) as error:
            line, kind = node.start_mark.line + 1, node.tag.split(":")[-1]
            found = f"{node.value!r}"[:60]
            raise ConfigError(
                f"line {line}: asked for a value of !!{kind}, found {found}"
            ) from error

    def decimal(self, node: yaml.ScalarNode) -> int | float:
        """Return a decimal number, or one with a `0b` or `0x` prefix."""
        if _OLD.match(self.construct_scalar(node)):
            line = node.start_mark.line + 1
            raise ConfigError(f"line {line}: asked for a decimal number, found {node.value}")
        if node.tag.endswith("int"):
            return super().construct_yaml_int(node)
        return super().construct_yaml_float(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.decimal)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.decimal)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))


def read_mapping(path: Path) -> dict[Any, Any]:
    """Return the keys and values of a YAML file.

    Raises:
        ConfigError: The file is missing, is not YAML or not a mapping, nests too deep, gives a key
            twice, or has a number such as `010`. The message is one line that names the file.
    """
    try:
        values = yaml.load(path.read_text(), _Loader)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: asked for a few levels of nesting, found too many") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: asked for a mapping, found {type(values).__name__}")
    return values


def has_list_of_sites(values: dict[Any, Any]) -> bool:
    """Return whether the values of a file are those of several sites: its sites are a list."""
    return isinstance(values.get("sites"), list)
