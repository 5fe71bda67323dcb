"""Candidates whose own potentials disagree with their charge order are stored, flagged, shown."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import torch
from fireworks import LaunchPad
from rich.console import Console
from safetensors.torch import save

from al_charge.crystal.enumeration import count_distinct
from al_charge.fw.launchpad import store_of
from al_charge.fw.status import status_document
from al_charge.loop.campaign import Campaign, open_campaign
from al_charge.loop.energies import candidate_entry
from al_charge.loop.propose import propose
from al_charge.loop.rounds import open_round
from al_charge.loop.spec import parse_spec
from al_charge.loop.submit import submit
from al_charge.potentials.potential import Potential
from al_charge.potentials.state import SiteMeans
from al_charge.potentials.vocabulary import Vocabulary
from al_charge.report.progress import status_panel
from al_charge.store.documents import Calibration, CandidateDoc, ModelDoc

HOST = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"
MEANS: SiteMeans = {"moments": {"Fe2+": 3.7, "Fe3+": 4.3}, "charges": {"Fe2+": 1.5, "Fe3+": 1.8}}
TOKENS = ("Fe2+", "Fe3+", "Na+", "O2-", "P5+")


def campaign_of(launchpad: LaunchPad, kind: str) -> Campaign:
    store = store_of(launchpad)
    document = {
        "name": f"flags-{kind}",
        "host": {
            "structure": str(HOST),
            "working_ion": "Na",
            "redox": {"Fe": [2, 3]},
            "fixed": {"P": 5, "O": -2},
        },
        "labeler": {"kind": "born"},
        "potential": {"kind": kind, "cutoff": "3 A", "channels": 2, "layers": 1},
        "committee": {"size": 2},
        "relaxation": {"max_steps": 1},
        "search": {"evaluations": 3, "seeds": 3},
    }
    submit(store, parse_spec(document, source=HOST))
    campaign = open_campaign(store, document["name"])
    for number in (0, 1):
        open_round(campaign, number)
    return campaign


def trained(campaign: Campaign, moment_of_fe3: float) -> None:
    """Store a committee whose heads give Fe3+ some moment, where labels had 4.3."""
    for member in range(2):
        potential = Potential.fresh(
            campaign.spec.potential,
            Vocabulary(TOKENS, charge_aware=True),
            mean_neighbours=10.0,
            seed=member,
            site_means=MEANS,
        )
        potential.module.start_heads(
            torch.tensor([3.7, moment_of_fe3, 0.0, 0.0, 0.0]),
            torch.tensor([1.5, 1.8, 0.9, -1.3, 3.5]),
        )
        config, weights = potential.state()
        document = ModelDoc(
            campaign=campaign.name,
            round=0,
            member=member,
            config=config,
            metrics={},
            history=[],
            held_out={},
        )
        campaign.store.models.put(document, save(weights), {})


def proposed(campaign: Campaign) -> list[CandidateDoc]:
    for n_ions in (1, 4):
        propose(campaign, 1, n_ions)
    found = campaign.store.candidates.all(campaign.name, 1)
    assert {candidate.n_ions for candidate in found} == {1, 4}
    return found


def told(launchpad: LaunchPad, campaign: Campaign) -> tuple[dict[str, int] | None, str]:
    """Return what the status document and the panel say."""
    document = status_document(launchpad, campaign)
    console = Console(width=140, file=io.StringIO(), record=True)
    console.print(status_panel(document))
    return document["charge_orders"], " ".join(console.export_text().split())


def test_flagged_candidates_are_stored_counted_and_shown(launchpad: LaunchPad) -> None:
    campaign = campaign_of(launchpad, "cpainn")
    trained(campaign, 3.8)
    found = proposed(campaign)
    for candidate in found:
        iron3 = [i for i, token in enumerate(candidate.geometry.species) if token == "Fe3+"]
        assert candidate.drifted == iron3
        assert len(iron3) == 4 - candidate.n_ions
        remark = candidate_entry(campaign, candidate, Calibration()).remark
        assert remark == (
            f"the committee predicts other states at {len(iron3)} of its sites" if iron3 else ""
        )
    flagged = sum(candidate.n_ions == 1 for candidate in found)
    counted, text = told(launchpad, campaign)
    assert counted == {"round": 1, "compared": len(found), "flagged": flagged}
    first, second = status_document(launchpad, campaign)["rounds"]
    assert (first["screened"], first["relaxed"]) == (None, 0)
    at_quarter = sum(candidate.n_ions == 1 for candidate in found)
    number = count_distinct(campaign.host)[Fraction(1, 4)]
    assert (second["screened"], second["relaxed"]) == (at_quarter / number, len(found))
    assert f"{flagged} of {len(found)} candidates of round 1: the committee disagrees" in text


def test_a_committee_that_agrees_flags_nothing(launchpad: LaunchPad) -> None:
    campaign = campaign_of(launchpad, "cpainn")
    trained(campaign, 4.2)
    found = proposed(campaign)
    assert all(candidate.drifted == [] for candidate in found)
    counted, text = told(launchpad, campaign)
    assert counted == {"round": 1, "compared": len(found), "flagged": 0}
    assert "charge order" not in text


def test_a_committee_without_heads_cannot_tell(launchpad: LaunchPad) -> None:
    campaign = campaign_of(launchpad, "painn")
    trained(campaign, 3.8)
    assert all(candidate.drifted is None for candidate in proposed(campaign))
    assert told(launchpad, campaign)[0] is None
