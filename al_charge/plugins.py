"""Plug-ins: engines, potentials, acquisition rules and search methods, found by entry points.

A plug-in is a class that describes itself. Its package names it in an entry point, al-charge's own
ones in the same way as other people's, and nothing else has to know of it.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from al_charge.errors import InputError, NotInstalledError, did_you_mean, one_line


class Quantity(StrEnum):
    """What a labeler or a potential can give for a structure."""

    ENERGY = "energy"
    FORCES = "forces"
    STRESS = "stress"
    MOMENTS = "moments"
    CHARGES = "charges"
    """Bader charges."""


class PluginSettings(BaseModel):
    """Settings of a plug-in; ``kind`` is the name that chooses it in a campaign file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    kind: str


class Plugin(ABC):
    """What a plug-in says of itself.

    Attributes
    ----------
    kind
        Name in campaign files, such as ``gpaw``; also the name of the entry point.
    title
        Name that people see, such as ``GPAW``.
    summary
        What it is, in one line.
    settings
        Model of its section of a campaign file.
    gives
        What it can compute with suitable settings.
    needs
        What labels must hold for it to be of use.
    install
        How to install what it needs, in a few words; empty where it comes with al-charge.
    """

    kind: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    settings: ClassVar[type[PluginSettings]]
    gives: ClassVar[frozenset[Quantity]] = frozenset()
    needs: ClassVar[frozenset[Quantity]] = frozenset()
    install: ClassVar[str] = ""

    def missing(self) -> str:
        """Return what this machine lacks to use it, in one line.

        Returns
        -------
        str
            Empty if nothing is missing.
        """
        return ""


P = TypeVar("P", bound=Plugin)


@dataclass(frozen=True)
class Found(Generic[P]):
    """One entry point.

    Attributes
    ----------
    kind
        Its name.
    source
        Package that it comes from, with its version.
    plugin
        The plug-in; None if it does not load.
    broken
        Why it does not load, in one line; empty if it does.
    """

    kind: str
    source: str
    plugin: P | None
    broken: str = ""


class Plugins(Generic[P]):
    """All plug-ins of one sort.

    Parameters
    ----------
    group
        Name of the entry points, such as ``al_charge.labelers``.
    base
        Class that each of them derives from.
    noun
        What one of them is called in messages, such as ``labeler``.
    default
        Kind where a campaign file names none; None where it must name one.
    """

    def __init__(self, group: str, base: type[Any], noun: str, default: str | None = None) -> None:
        self.group = group
        self.base = base
        self.noun = noun
        self.default = default

    @cached_property
    def found(self) -> dict[str, Found[P]]:
        """Every entry point by name, those that do not load included."""
        return {one.name: self._load(one) for one in _entry_points(self.group)}

    def __iter__(self) -> Iterator[P]:
        """Iterate over the plug-ins that load, by kind."""
        for kind in sorted(self.found):
            plugin = self.found[kind].plugin
            if plugin is not None:
                yield plugin

    @property
    def kinds(self) -> list[str]:
        """Kinds of the plug-ins that load, in alphabetical order."""
        return [plugin.kind for plugin in self]

    def get(self, kind: str) -> P:
        """Return the plug-in of a kind.

        Parameters
        ----------
        kind
            Its name in campaign files.

        Returns
        -------
        Plugin
            The plug-in.

        Raises
        ------
        NotInstalledError
            If no installed package has it, or it does not load.
        """
        one = self.found.get(kind)
        if one is None:
            raise NotInstalledError(
                f"there is no {self.noun} '{kind}' on this machine",
                where=self.noun,
                remedy=f"{did_you_mean(kind, self.kinds)}, or install the package that has it",
            )
        if one.plugin is None:
            raise NotInstalledError(
                f"the {self.noun} '{kind}' of {one.source} does not load: {one.broken}",
                where=self.noun,
                remedy="install that package again",
            )
        return one.plugin

    def of(self, settings: BaseModel) -> P:
        """Return the plug-in that settings belong to.

        Parameters
        ----------
        settings
            With a field ``kind``.

        Returns
        -------
        Plugin
            The plug-in.
        """
        return self.get(str(getattr(settings, "kind")))  # noqa: B009 - mypy knows no such field

    def default_settings(self) -> Any:
        """Return the settings that hold where a campaign file says nothing.

        Returns
        -------
        PluginSettings
            The defaults of the default kind.
        """
        assert self.default is not None
        return self.get(self.default).settings.model_validate({"kind": self.default})

    def _load(self, entry: EntryPoint) -> Found[P]:
        source = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
        try:
            plugin = entry.load()()
            if not isinstance(plugin, self.base) or plugin.kind != entry.name:
                raise TypeError(f"{entry.value} is not a {self.base.__name__} of this kind")
        except Exception as error:  # whatever another package does, the others still work
            broken = one_line(f"{type(error).__name__}: {error}")
            return Found(entry.name, source, None, broken)
        return Found(entry.name, source, plugin)


def _entry_points(group: str) -> list[EntryPoint]:
    """Return the entry points of a group, al-charge's own first where two have one name.

    Raises
    ------
    InputError
        If al-charge's own are not there.
    """
    found = sorted(entry_points(group=group), key=lambda one: not _is_own(one))
    if not any(map(_is_own, found)):
        raise InputError(
            f"the installed al-charge has no entry points '{group}'",
            where="al-charge",
            remedy="install it again with 'pip install --no-deps --editable .' in its folder",
        )
    return list({one.name: one for one in reversed(found)}.values())


def _is_own(entry: EntryPoint) -> bool:
    return entry.value.startswith("al_charge.")


@dataclass(frozen=True)
class ChosenByKind:
    """Annotation of a settings field that takes the settings of any plug-in, told by ``kind``.

    Without it they are those of the default, or of another that has fields which the default lacks.

    Parameters
    ----------
    plugins
        Returns the plug-ins; called when the model that has the field is made.
    """

    plugins: Callable[[], Plugins[Any]]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return the union of the settings of all plug-ins that load."""
        plugins = self.plugins()

        def kind_of(value: Any) -> Any:
            given = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
            if given is not None or not isinstance(value, dict):
                return given or plugins.default
            # Files that were written for a former default have its fields, and mean it.
            having = [
                one.kind for one in plugins if value.keys() <= one.settings.model_fields.keys()
            ]
            return having[0] if having and plugins.default not in having else plugins.default

        choices = {one.kind: handler.generate_schema(one.settings) for one in plugins}
        by_name = plugins.default is None
        return core_schema.tagged_union_schema(
            choices,
            "kind" if by_name else kind_of,
            metadata={"plugins": plugins},
        )
