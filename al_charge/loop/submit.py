"""Submitting a campaign: what is checked, what is stored, and which file is the same campaign."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pymatgen.core.structure import Structure

from al_charge.acquisition.plugin import ACQUISITIONS
from al_charge.crystal.host import Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.interpolation import kept_ions, match_empty
from al_charge.crystal.ordering import WHOLE_CELL
from al_charge.crystal.parent import read_structure
from al_charge.crystal.prepare import parent_structure
from al_charge.crystal.roles import mobile_sites
from al_charge.crystal.space_group import symmetrized
from al_charge.crystal.supercells import hosts_of
from al_charge.errors import InputError, NotInstalledError
from al_charge.labelers import make_labeler
from al_charge.labelers.dft.settings import DftSettings
from al_charge.labelers.plugin import LABELERS
from al_charge.labelers.protocol import Labeler, Relax, settings_hash
from al_charge.loop.spec import PLUGIN_SECTIONS, CampaignSpec, plugins_of
from al_charge.potentials.plugin import POTENTIALS
from al_charge.search.plugin import SEARCHES
from al_charge.store.documents import CampaignDoc
from al_charge.store.mongo import Store


def submit(store: Store, spec: CampaignSpec) -> bool:
    """Store a new campaign.

    Parameters
    ----------
    store
        Database to store it in.
    spec
        Its campaign file.

    Returns
    -------
    bool
        False if the same campaign is already there.

    Raises
    ------
    InputError
        If another campaign has this name, or the specification cannot work.
    """
    document = new_document(spec)
    # Labels of version 0.1 count settings of absent elements too; they are used if there are any.
    former = settings_hash(make_labeler(spec.labeler.with_defaults_for(elements_of(spec))))
    if store.labels.has_any(document.host_fingerprint, former):
        document = document.model_copy(update={"settings_hash": former})
    if (file := spec.labeler.input_file) is not None:
        contents = document.spec | {"labeler_file": store.files.keep(file.read_bytes())}
        document = document.model_copy(update={"spec": contents})
    if store.campaigns.add(document):
        return True
    if not is_same(store.campaigns.get(spec.name), document):
        raise InputError(
            "another campaign has this name",
            where=f"campaign '{spec.name}'",
            remedy="choose another name, or restore the campaign file",
        )
    return False


def check_spec(spec: CampaignSpec) -> None:
    """Check what takes more than the fields one by one; nothing is written.

    Parameters
    ----------
    spec
        The campaign file.

    Raises
    ------
    InputError
        If the host has a single composition, the labeler lacks parameters for a species, or the
        first round would exceed the label budget; or if something is not installed.
    """
    campaign = spec.convergence
    if spec.acquisition.first_round > campaign.max_labels:
        raise InputError(
            f"{spec.acquisition.first_round} first labels are more than max_labels",
            where="acquisition.first_round",
            remedy=f"give at most {campaign.max_labels}",
        )
    new_document(spec)


def is_edited(spec: CampaignSpec, stored: CampaignDoc) -> bool:
    """Return whether a campaign file, or a structure that it names, was changed since.

    Parameters
    ----------
    spec
        The campaign file as it is; refused where it is none now.
    stored
        The campaign that was submitted of it.

    Returns
    -------
    bool
        Whether it would be refused under this name.
    """
    return not is_same(stored, document_of(spec)[0])


def new_document(spec: CampaignSpec) -> CampaignDoc:
    """Check a campaign file and return the document that is stored of it.

    Parameters
    ----------
    spec
        The campaign file.

    Returns
    -------
    CampaignDoc
        What the file said, the defaults of today, and the structures themselves.

    Raises
    ------
    InputError
        If the host, the labeler, the potential, the search or the acquisition rule cannot work
        with this specification.
    """
    document, host = document_of(spec)
    # Last, because what is not installed here may be elsewhere; all else is valid then.
    POTENTIALS.of(spec.potential).check(host, spec.potential)
    LABELERS.of(spec.labeler).check(host, spec.labeler)
    return document


def document_of(spec: CampaignSpec) -> tuple[CampaignDoc, Host]:
    """Return what is stored of a campaign file, and its host; programs are not looked for.

    Parameters
    ----------
    spec
        The campaign file.

    Returns
    -------
    CampaignDoc
        See `new_document`.
    Host
        The first of its supercells.

    Raises
    ------
    InputError
        See `new_document`.
    """
    structure = parent_structure(spec.host)
    host, *_ = hosts = hosts_of(spec.host, structure).hosts
    if len({one.composition(n) for one in hosts for n in one.ion_counts}) < 2:
        raise InputError(
            "this host has a single composition, so it has no hull",
            where="host",
            remedy="give the redox elements oxidation states that let the ion in and out",
        )
    # Database and resources of jobs are not part of what a campaign is.
    pinned = spec.model_copy(update={"labeler": spec.labeler.pinned()})
    complete = spec.model_copy(
        update={"labeler": pinned.labeler.with_defaults_for(elements_of(spec))}
    )
    given, everything = (
        one.model_dump(
            mode="json",
            exclude={"database", "resources"},
            round_trip=True,
            exclude_unset=exclude_unset,
        )
        for one, exclude_unset in ((pinned, True), (complete, False))
    )
    contents = {
        "campaign": given,
        "defaults": _difference(everything, given),
        "structure": structure.as_dict(),
    }
    # The structure itself is stored, and not the folder of its file.
    given["host"]["structure"] = spec.host.structure.name
    if (empty := empty_structure(spec.host, structure, host)) is not None:
        given["host"]["empty_structure"] = Path(given["host"]["empty_structure"]).name
        contents["empty_structure"] = empty.as_dict()
    labeler = labeler_of(spec)
    if spec.relaxation.cell and not labeler.gives_stress:
        raise InputError(
            f"no cell can be relaxed: '{spec.labeler.kind}' with these settings gives no stress",
            where="relaxation.cell",
            remedy="leave it out, or choose a mode of the labeler that gives one",
        )
    if spec.convergence.verify is True and labeler.relax is not Relax.NONE:
        raise InputError(
            "the labeler relaxes every label, so there is nothing to verify",
            where="convergence.verify",
            remedy="leave it out, or ask for static labels with 'relax: none'",
        )
    if len(hosts) > 1 and isinstance(spec.labeler, DftSettings) and spec.labeler.kpoints:
        raise InputError(
            "one grid has another density in each supercell",
            where="labeler.kpoints",
            remedy="give 'kpoint_spacing' instead",
        )
    for one in hosts:
        SEARCHES.of(spec.search).check(one, spec.search)
        ACQUISITIONS.of(spec.acquisition).check(one, spec.acquisition)
    hashes = {"host_fingerprint": host.fingerprint, "settings_hash": settings_hash(labeler)}
    return CampaignDoc(name=spec.name, spec=contents, **hashes), host


def labeler_of(spec: CampaignSpec) -> Labeler:
    """Return the engine that makes a campaign's labels, without settings of absent elements.

    Parameters
    ----------
    spec
        The campaign file.

    Returns
    -------
    Labeler
        Ready to label.
    """
    return make_labeler(spec.labeler.of_elements(elements_of(spec)))


def elements_of(spec: CampaignSpec) -> set[str]:
    """Return the elements of a campaign's host.

    Parameters
    ----------
    spec
        The campaign file.

    Returns
    -------
    set of str
        The working ion included.
    """
    return {*spec.host.redox, *spec.host.fixed, spec.host.working_ion}


def empty_structure(spec: HostSpec, structure: Structure, host: Host) -> Structure | None:
    """Read the structure without working ions that a file gives.

    Parameters
    ----------
    spec
        What the file says about the host.
    structure
        The parent, which it must match.
    host
        The host.

    Returns
    -------
    Structure or None
        In the setting of its own file; None if the campaign file gives none.

    Raises
    ------
    InputError
        If it cannot be read, or is another crystal.
    """
    if spec.empty_structure is None:
        return None
    empty = read_structure(spec.empty_structure, "host.empty_structure")
    if spec.symmetrize is not None:
        empty = symmetrized(empty, spec.symmetrize)
    if WHOLE_CELL in structure.properties:
        raise InputError(
            "its sites cannot be matched to those of an ordered host",
            where="host.empty_structure",
            remedy="leave it out, or give an ordered 'structure' and the same one, emptied",
        )
    mobile = mobile_sites(spec, structure)
    match_empty(structure, empty, spec.working_ion, mobile, kept_ions(host))
    return empty


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


def _difference(everything: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of nested settings that were not given, with their values."""
    left: dict[str, Any] = {}
    for name, value in everything.items():
        if name not in given:
            left[name] = value
        elif isinstance(value, dict) and (inner := _difference(value, given[name])):
            left[name] = inner
    return left


def _union(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings that were given, and the defaults of the others."""
    united = dict(defaults)
    for name, value in given.items():
        inner = defaults.get(name)
        united[name] = _union(value, inner) if isinstance(inner, dict) else value
    return united
