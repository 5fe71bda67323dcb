"""What is stored of a campaign's file: its specification, and which file is the same campaign."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pymatgen.core.structure import Structure

from al_charge.errors import InputError, NotInstalledError
from al_charge.labelers.plugin import LABELERS
from al_charge.loop.spec import PLUGIN_SECTIONS, CampaignSpec, plugins_of
from al_charge.store.documents import CampaignDoc


def structure_of(document: CampaignDoc, name: str) -> Structure | None:
    """Return a structure of a stored campaign.

    Parameters
    ----------
    document
        Of the campaign.
    name
        ``structure``, or ``empty_structure`` for the one that is emptied of working ions.

    Returns
    -------
    Structure or None
        None if the campaign has no such structure.
    """
    stored = document.spec.get(name)
    return None if stored is None else Structure.from_dict(stored)


def spec_of(document: CampaignDoc) -> CampaignSpec:
    """Return the specification of a stored campaign.

    Parameters
    ----------
    document
        Of the campaign.

    Returns
    -------
    CampaignSpec
        What its file said, and for the rest the defaults that were in effect when it was submitted.

    Raises
    ------
    NotInstalledError
        If the campaign uses a plug-in that this machine lacks.
    InputError
        If what is stored is not valid, such as a name that no file may give.
    """
    content = _union(document.spec["campaign"], document.spec["defaults"])
    # There was one search method and one acquisition rule when none was named.
    content.setdefault("search", {}).setdefault("kind", "genetic")
    content.setdefault("acquisition", {}).setdefault("kind", "weighted")
    # All ions were high spin, and none too near others, when campaigns were stored without these.
    content["host"].setdefault("spins", "high")
    content["host"].setdefault("min_distance", "0 A")
    # No hull was verified unless the file asked for it.
    content.setdefault("convergence", {}).setdefault("verify", False)
    # Nor was any run in other spin states.
    kind = content["labeler"].get("kind")
    if kind in LABELERS.kinds and "explore_spin" in LABELERS.get(kind).settings.model_fields:
        content["labeler"].setdefault("explore_spin", False)
    for section in PLUGIN_SECTIONS:
        plugins = plugins_of(section)
        kind = content.get(section, {}).get("kind") or plugins.default
        if kind not in plugins.kinds:
            broken = plugins.found[kind].broken if kind in plugins.found else ""
            raise NotInstalledError(
                f"it needs the {plugins.noun} '{kind}', which "
                + (f"does not load: {broken}" if broken else "is not installed on this machine"),
                where=f"campaign '{document.name}'",
                remedy="install the package that has it; 'al-charge plugins' lists what there is",
            )
    try:
        return CampaignSpec.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise InputError(
            f"what is stored of it is not valid: {'.'.join(map(str, problem['loc']))}: "
            + problem["msg"].removeprefix("Value error, "),
            where=f"campaign '{document.name}'",
            remedy="open it with the version of al-charge that stored it, or submit its file under "
            "another name",
        ) from error


def is_same(one: CampaignDoc, other: CampaignDoc) -> bool:
    """Return whether two documents mean the same campaign.

    Their structures must be equal, and each must have what the other's file said. What neither file
    said is not compared: defaults may have changed since one of them was stored. Nor is what is
    kept of files.

    Parameters
    ----------
    one
        Document of a campaign.
    other
        Document of the other.

    Returns
    -------
    bool
        Whether a file that makes the one may be submitted as the other again.
    """
    for name in ("structure", "empty_structure"):
        if structure_of(one, name) != structure_of(other, name):
            return False
    first, second = spec_of(one), spec_of(other)
    given, others = (
        {name: value for name, value in doc.spec["campaign"].items() if name != "keep"}
        for doc in (one, other)
    )
    return _has(second, first, given) and _has(first, second, others)


def _has(settings: BaseModel, others: BaseModel, given: Mapping[str, Any]) -> bool:
    """Return whether settings have the values of some fields that others were given.

    Settings of another kind may have them too, unless the kind was given.
    """
    for name, stored in given.items():
        value, wanted = getattr(settings, name, None), getattr(others, name)
        if isinstance(wanted, BaseModel) and isinstance(value, BaseModel):
            other_kind = type(value) is not type(wanted) and "kind" in stored
            if other_kind or not _has(value, wanted, stored):
                return False
        elif value != wanted:
            return False
    return True


def not_given(everything: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of nested settings that were not given.

    Parameters
    ----------
    everything
        All settings.
    given
        Those that a file has given, of any value.

    Returns
    -------
    dict
        The others, with their values.
    """
    left: dict[str, Any] = {}
    for name, value in everything.items():
        if name not in given:
            left[name] = value
        elif isinstance(value, dict) and (inner := not_given(value, given[name])):
            left[name] = inner
    return left


def _union(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings that were given, and the defaults of the others."""
    united = dict(defaults)
    for name, value in given.items():
        inner = defaults.get(name)
        united[name] = _union(value, inner) if isinstance(inner, dict) else value
    return united
