"""Documents about labels: the label, who uses it, each attempt to make it, and its failure."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Literal

from ase.data import chemical_symbols
from pydantic import Field, computed_field

from al_charge.store.fields import (
    Composition,
    Document,
    Floats,
    Integers,
    Mapping,
    Number,
    Part,
    Tokens,
    Vectors,
    now,
)


class FrameDoc(Part):
    """One geometry of a label.

    Attributes
    ----------
    positions, cell
        angstrom; shapes (n_atoms, 3) and (3, 3).
    energy
        eV for the whole cell.
    forces
        eV/angstrom, shape (n_atoms, 3).
    stress
        eV/angstrom^3, shape (3, 3), ASE's sign; None if the engine gives none.
    """

    positions: Vectors
    cell: Vectors
    energy: Number
    forces: Vectors
    stress: Vectors | None = None


class ImportedDoc(Part):
    """Origin of something that was imported.

    Attributes
    ----------
    file
        Name of the file.
    sha256
        Hash of the file's content, hexadecimal.
    campaign
        Campaign whose labels were exported.
    imported
        When it was read.
    """

    file: str
    sha256: str
    campaign: str
    imported: datetime = Field(default_factory=now)


class StartDoc(Part):
    """One start of the engine within a labelling job.

    Attributes
    ----------
    changed
        What was changed since the start before; for the first, how it began.
    outcome
        How it ended, e.g. ``converged``.
    """

    changed: str
    outcome: str


class Refusal(StrEnum):
    """Why a label is on no hull."""

    UNUSABLE = "unusable"
    """Its energy may not be compared with that of other labels."""
    NOT_CONVERGED = "not converged"
    AMBIGUOUS = "ambiguous"
    """Its charge states are uncertain. Potentials that read moments train on it all the same."""


def refusal_of(
    unusable: str, converged: bool, resolved: list[str] | None, delocalised: bool = False
) -> Refusal | None:
    """Decide whether a label may be on a hull; nothing else decides it.

    Parameters
    ----------
    unusable
        As in `LabelDoc`.
    converged
        As in `LabelDoc`.
    resolved
        As in `LabelDoc`.
    delocalised
        As in `LabelDoc`.

    Returns
    -------
    Refusal or None
        The first reason why it may not.
    """
    if unusable:
        return Refusal.UNUSABLE
    if not converged:
        return Refusal.NOT_CONVERGED
    return Refusal.AMBIGUOUS if resolved is None and not delocalised else None


class LabelDoc(Document):
    """One result of a labeler; written once and never edited.

    What earlier versions did not record, or an export did not tell, is None, or empty.

    Attributes
    ----------
    key
        Hash of the canonical configuration, the labeler's settings, and the geometry or what moved.
    config_hash, colours
        The configuration that the label counts for: the resolved one, or the requested one if the
        charge states could not be resolved.
    identity
        The same configuration as an infinite crystal, whatever its supercell.
    requested_hash
        The configuration that was requested.
    requested, resolved
        Species token of every atom, as requested and as found; ``resolved`` is None if the charge
        states are ambiguous or the charge is delocalised.
    delocalised
        Whether sites share a charge in every try. The energy counts on the hull for the requested
        configuration, but no charge order can be learnt from the label.
    sites
        Species token of every atom as found, None for each that fits no charge state.
    audit
        How the charge states were determined, in one line; for an ambiguous label, why it is.
    windows
        Smallest and largest absolute moment, in Bohr magnetons, of every charge state that the
        label was audited with.
    bader_centres
        Net Bader charge, in e, of every charge state that the cross-check compared with.
    relax
        What the engine relaxed: nothing, the ions, or ions and cell.
    frames
        First the requested geometry, last the result; for a static label they are the same.
    energy
        eV per cell, of the last frame.
    moments
        Bohr magnetons, one per atom; None for an engine without spin.
    bader
        Net charges in e, cations positive, one per atom; None if there are none.
    bader_electrons
        Electrons of each neutral atom, from which its charge is counted.
    bader_refused
        Why there are no charges although there is a density; empty otherwise.
    unusable
        Why the energy may not be compared with that of other labels; empty if it may.
    engine
        Name and version of the code.
    datasets
        Identity of the pseudopotential or PAW dataset of each element.
    attempts
        Every start of the engine, in order.
    wall_time
        s, of all attempts.
    cores
        Number of cores.
    directory
        Folder of the engine's files, on the machine that ran it.
    campaign, round
        The campaign and round that requested it first.
    imported
        Where it came from if `al-charge labels import` has read it; None if it was made here.
    """

    collection: ClassVar[str] = "labels"

    key: str
    config_hash: str
    identity: str = ""
    requested_hash: str
    colours: Integers
    composition: Composition
    n_ions: int = Field(ge=0)
    host_fingerprint: str
    settings_hash: str
    settings: Mapping
    requested: Tokens
    resolved: Tokens | None
    delocalised: bool = False
    sites: list[str | None] = Field(default_factory=list)
    audit: str = ""
    windows: dict[str, Floats]
    bader_centres: dict[str, Number] = Field(default_factory=dict)
    relax: Literal["none", "ions", "cell"]
    numbers: Integers
    host_site: Integers
    frames: list[FrameDoc]
    energy: Number
    moments: Floats | None = None
    bader: Floats | None = None
    bader_electrons: Floats | None = None
    bader_refused: str = ""
    converged: bool
    unusable: str = ""
    engine: str
    datasets: dict[str, str]
    attempts: list[StartDoc]
    wall_time: Number | None
    cores: int | None = Field(ge=1)
    directory: str
    details: Mapping = Field(default_factory=dict)
    campaign: str
    round: int | None = Field(ge=0)
    imported: ImportedDoc | None = None
    created: datetime = Field(default_factory=now)
    frames_file: str | None = None

    @property
    def doc_id(self) -> str:
        """The label's key."""
        return self.key

    @property
    def as_requested(self) -> bool:
        """Whether the charge order is the requested one."""
        return self.resolved == self.requested

    @property
    def states_found(self) -> list[str]:
        """Species token of every atom as found, with a question mark where uncertain: ``Fe?``."""
        unknown: list[str | None] = [None] * len(self.requested)
        sites = self.sites or self.resolved or unknown
        return [
            site if site is not None else f"{chemical_symbols[number]}?"
            for site, number in zip(sites, self.numbers, strict=True)
        ]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def refusal(self) -> Refusal | None:
        """The reason why it is on no hull.

        Returns
        -------
        Refusal or None
            None if it may be on one.
        """
        return refusal_of(self.unusable, self.converged, self.resolved, self.delocalised)

    @property
    def refused(self) -> str:
        """The same in words; empty if it may be on a hull."""
        return {
            None: "",
            Refusal.UNUSABLE: self.unusable,
            Refusal.NOT_CONVERGED: "the engine did not converge",
            Refusal.AMBIGUOUS: self.audit or "its charge states are uncertain",
        }[self.refusal]


class LabelUseDoc(Document):
    """Records that a campaign uses a label, which may come from another campaign.

    Attributes
    ----------
    adopted
        Whether the round uses the label because it was imported; otherwise it was selected.
    """

    collection: ClassVar[str] = "label_uses"

    campaign: str
    round: int = Field(ge=0)
    key: str
    adopted: bool = False
    created: datetime = Field(default_factory=now)

    @property
    def doc_id(self) -> str:
        """Campaign and label."""
        return f"{self.campaign}/{self.key}"


class AttemptDoc(Document):
    """One start of a labelling job.

    Attributes
    ----------
    outcome
        ``made`` if the engine ran to a result, ``continued`` or ``unfinished`` if it was stopped
        with or without progress, else e.g. ``failed``; None while it runs, or if its worker was
        killed.
    """

    collection: ClassVar[str] = "attempts"

    attempt: str
    key: str
    campaign: str
    round: int = Field(ge=0)
    slot: int = Field(ge=0)
    hostname: str
    pid: int
    started: datetime = Field(default_factory=now)
    finished: datetime | None = None
    outcome: str | None = None
    reason: str = ""

    @property
    def doc_id(self) -> str:
        """A random id."""
        return self.attempt


class FailureDoc(Document):
    """A label that was given up, with its reason."""

    collection: ClassVar[str] = "failures"

    key: str
    campaign: str
    round: int = Field(ge=0)
    reason: str
    attempts: int = Field(ge=0)
    created: datetime = Field(default_factory=now)

    @property
    def doc_id(self) -> str:
        """The label's key."""
        return self.key
