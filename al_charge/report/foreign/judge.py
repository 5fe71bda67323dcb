"""Whether a run that al-charge has not made is a label of a campaign, and the label."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from ase import Atoms

from al_charge.crystal.configuration import (
    Configuration,
    composition,
    from_atoms,
    ion_count,
    set_species,
)
from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.identity import identity
from al_charge.crystal.placing import Placed, place
from al_charge.crystal.states import charge_of_state
from al_charge.crystal.symmetry import canonical, canonical_hash
from al_charge.crystal.valence import Audit, Windows
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.foreign import ALL_UNTOLD, Comparison, ForeignRun, contradicts, implausible
from al_charge.labelers.plugin import LABELERS, method_of
from al_charge.labelers.protocol import Array, BaderCharges, Frame, Reading, Relax
from al_charge.loop.campaign import Campaign, key_of, rounded_geometry
from al_charge.loop.label_document import in_states_of, windows_for
from al_charge.loop.submit import elements_of
from al_charge.report.foreign.find import Found
from al_charge.store.documents import FrameDoc, ImportedDoc, LabelDoc
from al_charge.store.labels import SUMMARY

LARGEST_DIFFERENCE = 0.15
"""eV per atom by which an energy may differ from that of the campaign's own labels: geometries of
one crystal differ by less, U and functional by more."""
_EVERY_ROUND = 10**6


@dataclass(frozen=True)
class Verdict:
    """What becomes of a run.

    Attributes
    ----------
    found
        The run, as it was read.
    label
        The label that it is; None if it is refused.
    reason
        Why it is refused; empty if it is a label.
    suspicious
        Whether its numbers are in other units or signs, which are those of its whole file.
    """

    found: Found
    label: LabelDoc | None = None
    reason: str = ""
    suspicious: bool = False


class Judge:
    """Judges runs by the host, windows and settings of a campaign.

    Parameters
    ----------
    campaign
        The campaign.
    same_settings
        Whether the user says that runs have the campaign's settings where they do not tell.
    """

    def __init__(self, campaign: Campaign, *, same_settings: bool) -> None:
        self._campaign = campaign
        self._same = same_settings
        spec = campaign.spec
        self._settings = spec.labeler.of_elements(elements_of(spec))
        self._plugin = LABELERS.of(spec.labeler)
        self._known = self._known_energies()

    def verdicts(self, found: Iterable[Found]) -> list[Verdict]:
        """Judge every run.

        Parameters
        ----------
        found
            What was read.

        Returns
        -------
        list of Verdict
            In their order; the second of two runs of one label is refused.
        """
        keys: dict[str, str] = {}
        verdicts = []
        for one in found:
            verdict = self._verdict(one)
            if verdict.label is not None:
                first = keys.setdefault(verdict.label.key, one.source)
                if first != one.source:
                    verdict = Verdict(one, reason=f"it is the label of {first} once more")
            # A store may have more runs than fit into memory: their labels are kept, they are not.
            verdicts.append(replace(verdict, found=replace(one, run=None)))
        wrong = _wrong_files(verdicts)
        return [
            Verdict(one.found, reason=one.reason or wrong.get(one.found.file, ""))
            if one.label is None or one.found.file in wrong
            else one
            for one in verdicts
        ]

    def _verdict(self, found: Found) -> Verdict:
        run = found.run
        if run is None:
            return Verdict(found, reason=found.reason)
        if run.unusable or not run.converged:
            return Verdict(found, reason=run.unusable or "its SCF did not converge")
        try:
            host, placed = self._place(run.atoms)
            if reason := implausible(run):
                return Verdict(found, reason=reason, suspicious=True)
            return self._judged(found, run, host, placed)
        except AlChargeError as error:
            return Verdict(found, reason=error.what)

    def _judged(self, found: Found, run: ForeignRun, host: Host, placed: Placed) -> Verdict:
        reading = _reading(run, placed)
        if reading.moments is None:
            raise InputError("it has no moments, which tell its charge states")
        requested = _any_states(host, placed.atoms)
        x = host.composition(placed.atoms.get_chemical_symbols().count(host.working_ion))
        windows = windows_for(self._campaign, _EVERY_ROUND, str(x))
        audit = self._campaign.labeler.audit(reading, requested, windows)
        audit = in_states_of(host, audit, placed.atoms.arrays["host_site"].tolist())
        if audit.species is None:
            raise InputError(f"its charge states are uncertain: {audit.describe()}")
        atoms = placed.atoms.copy()
        set_species(atoms, list(audit.species))
        config = from_atoms(host, atoms)
        if reason := self._other_order(atoms, reading.moments):
            return Verdict(found, reason=reason)
        compared = self._compare(run, atoms, placed)
        if compared.differ:
            return Verdict(found, reason=compared.differ)
        if compared.untold and not self._same:
            what = f"it does not record {compared.untold}; --same-settings declares them the same"
            return Verdict(found, reason=what)
        if reason := self._unlike_known(host, x, run.frame.energy / len(atoms), len(atoms)):
            return Verdict(found, reason=reason)
        told = "compared" if not compared.untold else f"the user says, of {compared.untold}"
        label = self._label(found, host, config, placed.atoms, reading, windows, audit, told)
        return Verdict(found, label=label)

    def _place(self, atoms: Atoms) -> tuple[Host, Placed]:
        """Return the supercell that a structure has, and the structure on its sites."""
        reasons = []
        for host in self._campaign.cells.hosts:
            try:
                return host, place(host, atoms)
            except InputError as error:
                reasons.append(error.what)
        raise InputError(reasons[0])

    def _compare(self, run: ForeignRun, atoms: Atoms, placed: Placed) -> Comparison:
        """Compare settings: by the labeler's plug-in, a hash, or what is told of the method."""
        campaign = self._campaign
        if run.settings_hash:
            own = campaign.settings_hash
            same = run.settings_hash == own
            return Comparison("" if same else f"its settings are {run.settings_hash}, not {own}")
        if run.kind:
            if run.kind != self._plugin.kind:
                title = LABELERS.get(run.kind).title
                return Comparison(f"it is a run of {title}, not of {self._plugin.title}")
            return self._plugin.compare(self._settings, run, atoms, placed.vectors)
        asked = method_of(campaign.physical_settings)
        if asked is None:
            return Comparison(f"labels of {self._plugin.title} are made by al-charge alone")
        if run.method is not None:
            elements = {*atoms.get_chemical_symbols()}
            if differ := run.method.differs_from(asked, elements):
                return Comparison(f"computed with {differ}")
        return Comparison(untold=ALL_UNTOLD)

    def _other_order(self, atoms: Atoms, moments: Array) -> str:
        """Say how the moments are not in the magnetic order that the campaign asks for."""
        asked = getattr(self._settings, "magnetic_order", "")
        expected = atoms.get_initial_magnetic_moments()
        signs = set(np.sign(moments[np.abs(expected) > 0.5]).tolist())
        if asked == "ferromagnetic" and len(signs) > 1:
            return "its moments point both ways; the campaign's order is ferromagnetic"
        if asked == "antiferromagnetic" and len(signs) == 1:
            return "its moments point one way; the campaign's order is antiferromagnetic"
        return ""

    def _known_energies(self) -> dict[Fraction, float]:
        """Return the lowest energy per formula unit of the campaign's labels, by x."""
        campaign, labels = self._campaign, self._campaign.store.labels
        keys = set(labels.uses(campaign.name))
        for host in campaign.cells.hosts:
            keys |= labels.imported(host.fingerprint, campaign.settings_hash, host.ion_counts)
        lowest: dict[Fraction, float] = {}
        for one in labels.read(SUMMARY, keys=keys):
            if one.refusal is None and one.settings_hash == campaign.settings_hash:
                x, energy = Fraction(one.composition), campaign.cells.energy_of(one)
                lowest[x] = min(energy, lowest.get(x, energy))
        return dict(sorted(lowest.items()))

    def _unlike_known(self, host: Host, x: Fraction, per_atom: float, n_atoms: int) -> str:
        """Say how an energy is none that the campaign's own labels leave possible."""
        if not self._known or not min(self._known) <= x <= max(self._known):
            return ""
        expected = float(np.interp(float(x), [*map(float, self._known)], [*self._known.values()]))
        off = per_atom - expected * host.formula_units / n_atoms
        if abs(off) <= LARGEST_DIFFERENCE:
            return ""
        return (
            f"its energy is {off:+.2f} eV per atom from that of the campaign's labels: other "
            "settings, or another unit"
        )

    def _label(
        self,
        found: Found,
        host: Host,
        config: Configuration,
        placed: Atoms,
        reading: Reading,
        windows: Windows | None,
        audit: Audit,
        told: str,
    ) -> LabelDoc:
        """Return the label that a run is: static, valid for its geometry."""
        campaign, (frame,) = self._campaign, reading.frames
        config_hash, species = canonical_hash(host, config), [str(s) for s in audit.species or ()]
        geometry = rounded_geometry(frame.positions, frame.cell)
        bader = reading.bader
        return LabelDoc(
            key=key_of(config_hash, campaign.settings_hash, geometry),
            config_hash=config_hash,
            identity=identity(host, config),
            requested_hash=config_hash,
            colours=list(canonical(host, config).occupation),
            composition=composition(host, config),
            n_ions=ion_count(host, config),
            host_fingerprint=host.fingerprint,
            settings_hash=campaign.settings_hash,
            settings=campaign.physical_settings,
            requested=species,
            resolved=species,
            sites=list(audit.sites),
            audit=audit.describe(),
            windows={s: list(w) for s, w in (windows.ranges if windows else {}).items()},
            bader_centres=dict(windows.charges) if windows else {},
            relax=Relax.NONE.value,
            numbers=placed.numbers.tolist(),
            host_site=placed.arrays["host_site"].tolist(),
            frames=[
                FrameDoc(
                    positions=frame.positions.tolist(),
                    cell=frame.cell.tolist(),
                    energy=frame.energy,
                    forces=frame.forces.tolist(),
                    stress=None if frame.stress is None else frame.stress.tolist(),
                )
            ],
            energy=frame.energy,
            moments=None if reading.moments is None else reading.moments.tolist(),
            bader=None if bader is None else bader.net.tolist(),
            bader_electrons=None if bader is None else bader.electrons.tolist(),
            bader_refused=reading.bader_refused,
            converged=True,
            engine=reading.engine,
            datasets=dict(reading.datasets),
            attempts=[],
            wall_time=None if found.run is None else found.run.wall_time,
            cores=None if found.run is None else found.run.cores,
            directory="",
            # Without the folders that lead there: they tell who owns it.
            details={
                **reading.details,
                "source": found.source.rpartition("/")[2],
                "settings_told": told,
            },
            campaign=campaign.name,
            round=None,
            imported=ImportedDoc(file=found.name, sha256=found.sha256, campaign=campaign.name),
        )


def _wrong_files(verdicts: Sequence[Verdict]) -> dict[str, str]:
    """Return which files contradict themselves, and how: their conventions are not ours."""
    alike: dict[tuple[Any, ...], list[Frame]] = defaultdict(list)
    for one in verdicts:
        if (label := one.label) is not None:
            state = (*label.host_site, *(label.resolved or ()))
            alike[one.found.file, state].append(_frame(label))
    wrong = {
        one.found.file: f"as {one.found.source}: {one.reason}"
        for one in reversed(verdicts)
        if one.suspicious
    }
    for (file, _), frames in alike.items():
        pairs = [*pairwise(frames), *((frames[0], other) for other in frames[2:])]
        if reason := next(filter(None, (contradicts(*pair) for pair in pairs)), ""):
            wrong[file] = reason
    return wrong


def _frame(label: LabelDoc) -> Frame:
    (last,) = label.frames
    return Frame(
        positions=np.array(last.positions),
        cell=np.array(last.cell),
        energy=last.energy,
        forces=np.array(last.forces),
        stress=None if last.stress is None else np.array(last.stress),
    )


def _reading(run: ForeignRun, placed: Placed) -> Reading:
    """Return a run as a labeler reads its own, in the order and vectors of the host."""
    order, sign = placed.order, -1.0 if placed.inverted else 1.0
    frame, bader = run.frame, run.bader
    moved = Frame(
        positions=placed.atoms.positions,
        cell=placed.atoms.cell.array,
        energy=frame.energy,
        forces=sign * frame.forces[order],
        stress=frame.stress,
    )
    return Reading(
        frames=(moved,),
        moments=None if run.moments is None else run.moments[order],
        bader=None if bader is None else BaderCharges(bader.net[order], bader.electrons[order]),
        bader_refused=run.bader_refused,
        converged=run.converged,
        engine=run.engine or "not told",
        wall_time=run.wall_time or 0.0,
        datasets=run.datasets,
        details=run.details,
    )


def _any_states(host: Host, atoms: Atoms) -> list[str]:
    """Return a species token of every atom: of redox sites the state that all can have, or any."""
    sites = atoms.arrays["host_site"].tolist()
    n_ions = sum(symbol == host.working_ion for symbol in atoms.symbols)
    redox = set(host.redox_sites.tolist())
    common, rest = divmod(host.redox_charge(n_ions), max(len(redox), 1))
    tokens = []
    for site in sites:
        states = [state for state in host.states[site] if site in redox or state != VACANCY]
        alike = [state for state in states if not rest and charge_of_state(state) == common]
        tokens.append(host.token(host.elements[site], (alike or states)[0]))
    return tokens
