"""Labels of selected candidates, once and for all campaigns."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from ase import Atoms

from al_charge.crystal.configuration import set_site_kinds, to_atoms
from al_charge.errors import AlChargeError
from al_charge.labelers.labelling import make_label, progress
from al_charge.labelers.protocol import Relax
from al_charge.loop.attempt import Job
from al_charge.loop.campaign import Campaign, atoms_of, label_key
from al_charge.loop.cells import configuration_of
from al_charge.loop.label_document import check_sites, check_start, label_document, windows_for
from al_charge.loop.packed_folder import unpack
from al_charge.loop.verify import relax_in
from al_charge.store.documents import CandidateDoc, FailureDoc, LabelDoc
from al_charge.store.labels import EXPLORED
from al_charge.store.spool import Spool

_log = logging.getLogger("al_charge.loop")


def label(
    campaign: Campaign,
    round_number: int,
    slot: int,
    directory: Path,
    *,
    spool: Path,
    lock: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> str | None:
    """Make the label of one candidate that a round has selected.

    An existing label, of this campaign or another with the same settings, is used as it is. A job
    that fails is quarantined with its reason: it costs its own label, never the round.

    Parameters
    ----------
    campaign
        The campaign.
    round_number
        Round that has selected the candidate.
    slot
        Position of the candidate in the selection; beyond its end there is nothing to do.
    directory
        Folder for the engine's files. An interrupted run is continued from there. A label that is
        tried again after it was given up gets a subfolder.
    spool
        Folder where a finished label waits if the database does not answer.
    lock
        Reserves a label's key for one process; campaigns may want the same label at once.

    Returns
    -------
    str or None
        Key of the label; None if the slot is beyond the selection, or the label was given up.

    Raises
    ------
    AlChargeError
        If nothing was selected, or the settings of the labeler have changed.
    UnfinishedError
        If the engine was stopped early; called again, it continues.
    """
    record = campaign.store.rounds.get(campaign.name, round_number)
    selected = record.selected if record is not None else None
    if selected is None:
        raise AlChargeError("nothing was selected", where=f"{campaign.name}/{round_number}")
    if slot >= len(selected):
        return None
    # Before anything is computed that no hull of this campaign could use.
    campaign.store.campaigns.check_settings(
        campaign.name, campaign.settings_hash, campaign.physical_settings
    )
    candidate = campaign.store.candidates.get(selected[slot])
    if candidate is None:
        raise AlChargeError("a selected candidate is missing", where=selected[slot])
    key = make_once(campaign, round_number, slot, candidate, directory, spool=spool, lock=lock)
    if key is not None:
        round_number = _round_of_use(campaign, round_number, key)
        campaign.store.labels.link(campaign.name, round_number, key)
    return key


def make_once(
    campaign: Campaign,
    round_number: int,
    slot: int,
    candidate: CandidateDoc,
    directory: Path,
    *,
    spool: Path,
    lock: Callable[[str], AbstractContextManager[None]],
    state: str = "",
) -> str | None:
    """Make the label of a candidate, unless it is there or was given up; no round uses it yet.

    Parameters
    ----------
    campaign
        The campaign, or what it is in another electronic state.
    round_number
        Round that asks for it.
    slot
        Number of its task in the round.
    candidate
        What is labelled.
    directory
        As for `label`.
    spool
        As for `label`.
    lock
        As for `label`.
    state
        The electronic state that was asked for, of a label that explores another one than the
        campaign's.

    Returns
    -------
    str or None
        Key of the label; None if it was given up.

    Raises
    ------
    UnfinishedError
        If the engine was stopped early; called again, it continues.
    """
    relax = relax_in(campaign, round_number)
    store, key = campaign.store, label_key(campaign, candidate, relax)
    if not store.labels.has(key):
        with lock(key):
            if not store.labels.has(key) and store.failures.get(key) is None:
                job = _Job(campaign, round_number, slot, candidate, relax, key, directory, state)
                job.run(Spool(spool))
    return key if store.labels.has(key) else None


def _round_of_use(campaign: Campaign, round_number: int, key: str) -> int:
    """Return the first round, starting with the one that selected a label, that may use it.

    A round that was assessed without the label is not changed.
    """
    store = campaign.store
    while (record := store.rounds.get(campaign.name, round_number)) is not None:
        if record.assessment is None or key in store.rounds.predictions(record)[0]:
            break
        round_number += 1
    return round_number


def retry_labels(campaign: Campaign) -> list[str]:
    """Allow a new try of every label that a campaign has selected and that was given up.

    It does not matter which campaign gave it up: labels are shared by all with the same settings.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    list of str
        Keys of these labels.
    """
    store = campaign.store
    retried = []
    for record in store.rounds.all(campaign.name):
        relax = relax_in(campaign, record.number)
        slots = {doc_id: slot for slot, doc_id in enumerate(record.selected or [])}
        wanted = {
            label_key(campaign, candidate, relax): slots[candidate.doc_id]
            for candidate in store.candidates.stream(list(slots))
        }
        for key in sorted(store.failures.among(wanted.keys())):
            if store.failures.retry(
                key, campaign=campaign.name, round=record.number, slot=wanted[key]
            ):
                retried.append(key)
    return retried


class _Job:
    """One labelling job: its starting geometries in turn, until one gives a label."""

    def __init__(
        self,
        campaign: Campaign,
        round_number: int,
        slot: int,
        candidate: CandidateDoc,
        relax: Relax,
        key: str,
        directory: Path,
        state: str,
    ) -> None:
        self.campaign = campaign
        self.state = state
        self.round_number = round_number
        self.slot = slot
        self.candidate = candidate
        self.relax = relax
        self.key = key
        retries = campaign.store.failures.retries(key)
        # An engine continues from its folder, where it would find that it has failed.
        self.directory = directory / f"again-{retries}" if retries else directory
        self.files = directory
        self.host = campaign.cells.of(candidate)
        self.windows = windows_for(campaign, round_number, candidate.composition)

    def run(self, spool: Spool) -> None:
        """Store the label, or the reason why the last start failed.

        Raises
        ------
        UnfinishedError
            If the engine was stopped early and may be continued.
        NotInstalledError
            If there is no engine on this machine.
        """
        store, name = self.campaign.store, self.campaign.name
        started = time.monotonic()
        starts = self.starts()
        for folder, atoms in starts.items():
            reason = self.attempt(atoms, folder, spool)
            if reason is None:
                break
        else:
            _log.warning("label %s is given up: %s", self.key, reason)
            store.failures.put(
                FailureDoc(
                    key=self.key,
                    campaign=name,
                    round=self.round_number,
                    reason=reason or "",
                    attempts=len(starts),
                )
            )
        store.rounds.add_seconds(name, self.round_number, "label", time.monotonic() - started)

    def attempt(self, atoms: Atoms, folder: Path, spool: Spool) -> str | None:
        """Try to make the label from one geometry; return why that failed, None if it did not.

        Raises
        ------
        UnfinishedError
            As in `run`.
        NotInstalledError
            As in `run`.
        """
        store, labeler = self.campaign.store, self.campaign.labeler
        return Job(self.campaign, self.round_number, self.slot, self.key).attempt(
            folder,
            lambda: spool.deliver(store.labels, self.made_from(atoms, folder)),
            lambda: progress(labeler, folder),
        )

    def starts(self) -> dict[Path, Atoms]:
        """Return the geometries to try in turn, by the folder of their files.

        A relaxed label is valid for its configuration whatever geometry it started from, so if the
        one from a young committee is bad, the host's ideal sites follow. A verification starts from
        the geometry of a label, which is not that of a committee.
        """
        starts = {self.directory: atoms_of(self.candidate.geometry)}
        if not self.campaign.static_labels:
            start = self.campaign.start_host(self.host, self.candidate.n_ions)
            ideal = to_atoms(start, configuration_of(self.candidate.colours))
            starts[self.directory / "ideal"] = ideal
        return starts

    def made_from(self, atoms: Atoms, folder: Path) -> LabelDoc:
        """Run the labeler from one geometry and return the label.

        Raises
        ------
        AlChargeError
            If there is no result, or its ions are on other sites; those of a static label are
            looked at before the labeler runs.
        """
        if self.relax is Relax.NONE:
            check_start(self.campaign, self.candidate)
        self.campaign.bring_file()
        unpack(self.files)
        folder.mkdir(parents=True, exist_ok=True)
        set_site_kinds(self.host, atoms)
        result = make_label(
            self.campaign.labeler, atoms, folder, relax=self.relax, windows=self.windows
        )
        check_sites(self.campaign, self.candidate, result)
        made = label_document(
            self.campaign,
            self.candidate,
            result,
            self.key,
            self.round_number,
            self.relax,
            self.windows,
        )
        if not self.state:
            return made
        return made.model_copy(update={"details": {**made.details, EXPLORED: self.state}})
