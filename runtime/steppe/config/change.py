"""Changes of a configuration while its run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from steppe.config import RunConfig
from steppe.config.control import ControlSection
from steppe.config.error_message import first_error
from steppe.config.power import PowerSection, SignalSupply, TraceSupply
from steppe.config.section import Positive, Section
from steppe.config.serving import PoolSection, SloSection
from steppe.errors import ConfigError

CHANGEABLE: Mapping[str, type[Section]] = {
    "power": PowerSection,
    "control": ControlSection,
    "slo": SloSection,
}
"""The sections that can change, by name."""
MODELS = "models"
"""Name of the further section that has what can change of each of several models."""
SECTIONS = (*CHANGEABLE, MODELS)
_FIXED = {
    "power": ("battery", "start", "speedup"),
    "control": ("period_s", "deadman_s", "power_limits", "horizon"),
    "slo": (),
}
"""Keys of these sections that hold for the whole run."""


def changed_config(config: RunConfig, section: str, values: Mapping[str, Any]) -> RunConfig:
    """Return a configuration with another section, validated as a file is.

    Args:
        config: The present configuration.
        section: Name of the section, one of `CHANGEABLE`.
        values: The whole section, as a file would hold it. Keys that are left out get their
            defaults. Paths are absolute, or relative to the folder in which the run was started.

    Raises:
        ConfigError: The section cannot change, a key is unknown, a value is out of range or holds
            for the whole run, or the section does not fit the others. The message is one line.
    """
    if section == MODELS:
        return _with_models(config, values)
    kind = CHANGEABLE.get(section)
    if kind is None:
        known = ", ".join(SECTIONS)
        raise ConfigError(f"asked for a section that can change, {known}, found {section!r:.60}")
    old = getattr(config, section)
    try:
        new = kind.model_validate({**_fixed(section, old), **values})
    except ValidationError as error:
        raise ConfigError(f"{section}.{first_error(error, kind)}") from error
    _refuse_fixed(section, old, new)
    _refuse_code(section, old, new)
    candidate = config.model_copy(update={section: _resolved(new)})
    try:  # the checks between sections; those of several models are not concerned
        RunConfig.model_validate({**dict(candidate), "models": ()})
    except ValidationError as error:
        raise ConfigError(first_error(error, RunConfig)) from error
    return candidate


def shown_section(config: RunConfig, section: str) -> dict[str, Any]:
    """Return a section as JSON values, such as `changed_config` takes."""
    if section == MODELS:
        limits = {pool.client_name: _limits_of(pool) for pool in config.models}
        return {
            name: each.model_dump(mode="json", exclude_none=True) for name, each in limits.items()
        }
    return _shown(getattr(config, section))


def _shown(section: Section) -> dict[str, Any]:
    return section.model_dump(mode="json", exclude_none=True)


class PoolLimits(Section):
    """What can change of one of several models."""

    weight: Positive = 1.0
    """What a token of the model is worth when watts are divided."""
    slo: SloSection | None = None
    """The SLO of its requests; the section `slo` if absent."""


def _limits_of(pool: PoolSection) -> PoolLimits:
    return PoolLimits(weight=pool.weight, slo=pool.slo)


def _with_models(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """Return a configuration with other limits of some models; the other models keep theirs."""
    known = {pool.client_name: pool for pool in config.models}
    for name, given in values.items():
        if name not in known:
            names = ", ".join(known) or "none: the run has one model only"
            raise ConfigError(f"{MODELS}: asked for one of {names}, found {name!r:.60}")
        if not isinstance(given, Mapping):
            raise ConfigError(f"{MODELS}.{name}: asked for a mapping, found {given!r:.60}")
        now = dict(_limits_of(known[name]))
        try:
            limits = PoolLimits.model_validate({**now, **given})
        except ValidationError as error:
            raise ConfigError(f"{MODELS}.{name}.{first_error(error, PoolLimits)}") from error
        known[name] = known[name].model_copy(update=dict(limits))
    return config.model_copy(update={"models": tuple(known.values())})


def _fixed(section: str, old: Section) -> dict[str, Any]:
    return {key: getattr(old, key) for key in _FIXED[section]}


def _refuse_fixed(section: str, old: Section, new: Section) -> None:
    for key in _FIXED[section]:
        before, after = getattr(old, key), getattr(new, key)
        if after != before:
            raise ConfigError(
                f"{section}.{key}: asked for what holds for the whole run, {before!s:.60}, "
                f"found {after!s:.60}"
            )


def _refuse_code(section: str, old: Section, new: Section) -> None:
    """Refuse classes from outside that the file does not name: an admin key runs no code."""
    match old, new:
        case PowerSection(), PowerSection():
            known = [*old.supply, *old.limits]
            for source in (*new.supply, *new.limits):
                if source.kind == "custom" and source not in known:
                    raise ConfigError(
                        f"{section}: asked for a custom source of the file, found {source.signal}"
                    )
        case ControlSection(), ControlSection():
            if ":" in new.policy and new.policy != old.policy:
                raise ConfigError(
                    f"{section}.policy: asked for a class of the file, found {new.policy}"
                )


def _resolved(section: Section) -> Section:
    """Return a section whose paths are absolute."""
    if not isinstance(section, PowerSection):
        return section
    sources = {
        key: tuple(
            source.model_copy(update={"path": Path(source.path).absolute()})
            if isinstance(source, TraceSupply | SignalSupply)
            else source
            for source in parts
        )
        for key, parts in (("supply", section.supply), ("limits", section.limits))
    }
    return section.model_copy(update=sources)
