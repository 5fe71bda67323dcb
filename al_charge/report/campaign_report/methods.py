"""The methods paragraph of a campaign, from what was really used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from al_charge.acquisition.plugin import ACQUISITIONS
from al_charge.errors import AlChargeError
from al_charge.labelers.dft.settings import DftSettings
from al_charge.labelers.plugin import LABELERS
from al_charge.loop.campaign import Campaign
from al_charge.loop.convergence import LARGEST_CHANCE
from al_charge.loop.select import TEST
from al_charge.potentials.plugin import POTENTIALS
from al_charge.report.names import labeler_name
from al_charge.report.references import Reference
from al_charge.search.plugin import SEARCHES
from al_charge.store.documents import Assessment

MOVED = {
    "none": "as single points",
    "ions": "with relaxed ions",
    "cell": "with relaxed ions and cell",
}
"""What an engine moved, by `al_charge.labelers.protocol.Relax`."""


def methods_paragraph(
    campaign: Campaign,
    *,
    version: str,
    formula: str,
    space: str,
    distinct: int,
    labels: Mapping[str, Any],
    settings: Mapping[str, Any],
    last: Assessment | None,
    references: list[Reference],
) -> str:
    """Return how a campaign was made, as a paper would tell it.

    Parameters
    ----------
    campaign
        The campaign.
    version
        Of al-charge.
    formula
        Of the host, such as ``NaxFePO4``.
    space
        What x means and from where to where it goes.
    distinct
        Distinct configurations that were searched.
    labels
        ``al-charge labels --json``.
    settings
        Of the engine, as labels record them.
    last
        The last assessment; None before the first.
    references
        What to cite.

    Returns
    -------
    str
        Sentences. Nothing is told of what has not happened, such as training before there was any.
    """
    cells = campaign.cells.hosts
    atoms = sorted({len(host.elements) for host in cells})
    size = f"a cell of {atoms[0]} sites" if len(cells) == 1 else (
        f"{len(cells)} supercells of {atoms[0]} to {atoms[-1]} sites"
    )  # fmt: skip
    redox = ", ".join(sorted(campaign.host.redox_species))
    told = [
        f"Low-energy configurations of {formula} ({space}) were searched with al-charge {version}: "
        f"{distinct} symmetry-distinct, charge-neutral configurations in {size}, each of which "
        f"gives the sites of the working ion and the charge state of every redox site ({redox}).",
        *_labelling(campaign, labels, settings),
        *_learning(campaign, last),
    ]
    if last is not None:
        told.append(
            "Formation energies are against the two end members; voltages follow from differences "
            "of energy between neighbouring vertices of the convex hull and from the energy of "
            f"{campaign.spec.host.working_ion} metal. Zero-point and thermal contributions are not "
            "included."
        )
    if labels["labels"] and references:
        keys = ", ".join(f"{one.why} [{one.key}]" for one in references)
        told.append(f"Please cite {keys}.")
    return " ".join(told)


def _labelling(
    campaign: Campaign, labels: Mapping[str, Any], settings: Mapping[str, Any]
) -> list[str]:
    """Return how labels were made; nothing before there is one."""
    made = labels["labels"]
    if not made:
        return []
    spec = campaign.spec.labeler
    engines = " and ".join(labels["engines"])
    numbers = {text: sum(one["relax"] == relax for one in made) for relax, text in MOVED.items()}
    moved = " and ".join(
        f"{number} {text}" if number < len(made) else text
        for text, number in numbers.items()
        if number
    )
    name = labeler_name(spec.kind)
    were = "label was" if len(made) == 1 else "labels were"
    told = [f"{len(made)} {were} made by {name}, engine {engines}, {moved}."]
    if isinstance(spec, DftSettings):
        told += _dft(campaign, spec, settings)
    else:
        told.append("No density-functional theory is involved.")
    taken = sum(one["imported"] is not None for one in made)
    if taken:
        told.append(f"Imported: {taken} of them.")
    left = sum(bool(one["refused"]) for one in made)
    if left:
        told.append(f"Left off the hull: {left} of them.")
    shared = sum(one["delocalised"] for one in made)
    if shared:
        told.append(
            f"In {shared} of them sites share a charge; such a label counts with its energy, not "
            "with its charge order."
        )
    return told


def _dft(campaign: Campaign, spec: DftSettings, settings: Mapping[str, Any]) -> list[str]:
    """Return functional, U, basis, k-points and spin."""
    elements = {*campaign.host.elements, campaign.spec.host.working_ion}
    told = []
    try:
        method = LABELERS.of(spec).method(settings)
    except (AlChargeError, KeyError):
        method = None
    if method is not None:
        u = {el: value for el, value in method.hubbard_u.items() if value and el in elements}
        values = ", ".join(f"{value:g} eV on {el}" for el, value in sorted(u.items()))
        told.append(f"{method.functional} with U - J = {values}" if u else method.functional)
    cutoff = settings.get("cutoff") or settings.get("incar", {}).get("ENCUT")
    if cutoff:
        told.append(f"plane waves up to {float(cutoff):g} eV")
    elif settings.get("basis"):
        told.append(
            f"atomic orbitals ({settings['basis']}) and a grid spacing of "
            f"{float(settings['grid_spacing']):g} Å"
        )
    told.append(
        f"a k-point grid of {' x '.join(map(str, spec.kpoints))}"
        if spec.kpoints
        else f"k-points no farther apart than {spec.kpoint_spacing:g} per Å"
    )
    held = "fixed" if spec.holds_moment else "free"
    moments = f"Spin-polarised, {spec.magnetic_order} start, total moment {held}."
    return [
        f"Method: {', '.join(told)}. {moments} Each calculation was steered towards the "
        "charge order that was asked for; charge states were read back from the final moments."
    ]


def _learning(campaign: Campaign, last: Assessment | None) -> list[str]:
    """Return what was trained, and how labels were chosen; nothing before an assessment."""
    if last is None:
        return []
    spec = campaign.spec
    network = POTENTIALS.of(spec.potential).title
    aware = (
        "in which each charge state of an element is a species of its own"
        if spec.potential.charge_aware
        else "which does not see charge states"
    )
    told = [
        f"In each round with new labels a committee of {spec.committee.size} {network} potentials, "
        f"{aware}, was trained on the labels (at most {spec.training.epochs} epochs, seed "
        f"{spec.seed}); "
        f"candidates came from the search method '{SEARCHES.of(spec.search).title}' and labels "
        f"were chosen by the rule '{ACQUISITIONS.of(spec.acquisition).title}'."
    ]
    reasons = [one for record in campaign.store.rounds.all(campaign.name) for one in record.reasons]
    if any(reason.startswith(TEST) for reason in reasons):
        told.append("Where it asked for none, one predicted ground state was labelled as a test.")
    if last.exhaustive is not None:
        ranked = "every configuration" if last.exhaustive else "a sample of the configurations"
        told.append(
            f"A Gaussian process on the lattice (cluster correlations, Ewald energy, composition) "
            f"fitted to the labels ranked {ranked}, and gave the probabilities and bands."
        )
    limits = spec.convergence
    told.append(
        f"The search ends when for {limits.rounds} round{'s' * (limits.rounds != 1)} the vertices "
        f"stay the same, the hull moves by less than {1e3 * limits.hull_tolerance:g} meV per "
        "formula unit, the predicted ground state of every vertex is labelled, and the chance that "
        f"anything lies below the hull by more than that is under {100 * LARGEST_CHANCE:g} %."
    )
    return told
