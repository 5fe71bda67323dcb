"""Submitting a campaign: what is checked and what is stored."""

from __future__ import annotations

from pathlib import Path

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
from al_charge.errors import InputError
from al_charge.labelers import make_labeler
from al_charge.labelers.dft.settings import DftSettings
from al_charge.labelers.plugin import LABELERS
from al_charge.labelers.protocol import Labeler, Relax, settings_hash
from al_charge.loop.spec import CampaignSpec
from al_charge.loop.stored_spec import is_same, not_given
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
        "defaults": not_given(everything, given),
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
            "the same grid is of a different density in each supercell",
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
