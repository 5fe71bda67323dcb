"""Migration to schema version 5.

Campaigns keep what their files said apart from the defaults that were in effect. Labels say in one
field whether they may be on a hull. The assessments of rounds have a fixed form, and what a round's
committee predicts for the labels is in a file; until version 3 it was in the assessment itself.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import bson
import gridfs
import numpy as np
from pymongo.database import Database

from al_charge.store.documents import DOCUMENTS, CampaignDoc, LabelDoc, RoundDoc
from al_charge.store.label_documents import refusal_of
from al_charge.store.round_documents import Assessment
from al_charge.store.schema import create_collections

Stored = dict[str, Any]

_OLD = {"schema_version": 4}
_NEW = {"schema_version": 5}


DEFAULTS: dict[str, Stored] = {
    "host": {
        "empty_structure": None,
        "working_ion_charge": 1,
        "supercell": [1, 1, 1],
        "redox_sites_per_formula": 1,
    },
    "labeler.born": {
        "relax": "cell",
        "fmax": "0.005 eV/A",
        "max_steps": 500,
    },
    "labeler.gpaw": {
        "relax": "none",
        "fmax": "0.05 eV/A",
        "hubbard_u": {"Fe": "5.3 eV"},
        "magnetic_order": "ferromagnetic",
        "shell_distortion": "0.06 A",
        "shell_contrast": "0.08 A",
        "moment_windows": None,
        "bader": True,
        "mode": "lcao",
        "cutoff": "700.0 eV",
        "basis": "dzp",
        "grid_spacing": "0.22 A",
        "xc": "PBE",
        "smearing": "0.05 eV",
        "kpoints": [1, 1, 1],
        "metal_kpoints": 12,
        "fixed_moment": False,
        "energy_tolerance": "1e-06 eV",
        "density_tolerance": 0.0001,
        "eigenstates_tolerance": 1e-06,
        "max_iterations": 100,
        "mixer": None,
        "scf_ladder": True,
        "max_steps": 100,
        "tries": 3,
        "moment_limit": 4.0,
        "bader_refinement": 2,
        "processes": 1,
        "timeout": "14400.0 s",
        "save_interval": "120.0 s",
    },
    "labeler.vasp": {
        "relax": "none",
        "fmax": "0.02 eV/A",
        "hubbard_u": {
            "Co": "3.32 eV",
            "Cr": "3.7 eV",
            "Fe": "5.3 eV",
            "Mn": "3.9 eV",
            "Mo": "4.38 eV",
            "Ni": "6.2 eV",
            "V": "3.25 eV",
            "W": "6.2 eV",
        },
        "magnetic_order": "ferromagnetic",
        "shell_distortion": "0.06 A",
        "shell_contrast": "0.08 A",
        "moment_windows": {
            "Fe2+": [3.65, 3.84],
            "Fe3+": [4.15, 4.45],
            "Mn2+": [4.45, 4.75],
            "Mn3+": [3.6, 4.1],
            "Mn4+": [2.7, 3.4],
            "Co2+": [2.65, 2.86],
            "Co3+": [3.02, 3.25],
            "Ni2+": [1.6, 1.9],
            "V3+": [1.7, 2.05],
            "V4+": [0.85, 1.2],
            "V5+": [0.0, 0.3],
            "Cr3+": [2.7, 3.1],
        },
        "bader": True,
        "cutoff": "520.0 eV",
        "kpoints": None,
        "kpoint_density": 64.0,
        "metal_kpoint_density": 1000.0,
        "fixed_moment": True,
        "potcar_functional": "PBE",
        "potcars": {},
        "verify_potcars": True,
        "incar": {},
        "max_steps": 99,
        "tries": 3,
        "command": None,
        "gamma_command": None,
        "timeout": "86400.0 s",
        "keep_wavecar": False,
    },
    "potential.painn": {
        "charge_aware": True,
        "cutoff": "5.0 A",
        "pair_cutoff": "8.0 A",
        "pair_intervals": 24,
        "prior": "none",
        "channels": 32,
        "layers": 2,
        "radial": 12,
        "spin": False,
    },
    "potential.cpainn": {
        "charge_aware": True,
        "cutoff": "5.0 A",
        "pair_cutoff": "8.0 A",
        "pair_intervals": 24,
        "prior": "none",
        "channels": 32,
        "layers": 2,
        "radial": 12,
        "spin": False,
    },
    "potential.chgnet": {
        "charge_aware": True,
        "cutoff": "6.0 A",
        "pair_cutoff": "8.0 A",
        "pair_intervals": 24,
        "prior": "none",
        "channels": 64,
        "layers": 4,
        "angle_cutoff": "3.0 A",
        "radial": 31,
        "angular": 31,
    },
    "potential.mace": {
        "charge_aware": True,
        "cutoff": "5.0 A",
        "pair_cutoff": "8.0 A",
        "pair_intervals": 24,
        "prior": "none",
        "channels": 16,
        "layers": 2,
        "max_ell": 2,
        "max_l": 1,
        "correlation": 2,
        "radial": 8,
        "interaction": "residual",
        "distance_transform": "none",
        "spin": False,
        "pair_repulsion": False,
        "long_range": "none",
        "foundation": None,
    },
    "training": {
        "epochs": 60,
        "batch_size": 4,
        "learning_rate": 0.005,
        "schedule": "cosine",
        "precision": "float32",
        "loss": "squared",
        "huber_delta": 3.0,
        "energy_weight": 10.0,
        "force_weight": 1.0,
        "stress_weight": 100.0,
        "moment_weight": 0.1,
        "charge_weight": 0.1,
        "weight_decay": 0.0,
        "gradient_clip": 10.0,
        "averaging": 0.99,
        "patience": 20,
        "checkpoint_every": 5,
    },
    "committee": {
        "size": 3,
    },
    "relaxation": {
        "fmax": "0.03 eV/A",
        "max_steps": 100,
        "cell": None,
        "reach": None,
    },
    "search": {
        "evaluations": 36,
        "seeds": 12,
        "population": 10,
        "children": 6,
        "screening": 6,
        "tournament": 2,
        "patience": 3,
    },
    "search.operators": {
        "ion_swap": 1.0,
        "charge_swap": 1.0,
        "coupled_swap": 2.0,
        "electron_transfer": 0.5,
        "exchange_sublattices": 1.0,
        "splice": 1.0,
    },
    "acquisition": {
        "labels_per_round": 16,
        "first_round": 20,
        "improvement": 1.0,
        "chance": 1.0,
        "spread": 0.2,
        "diversity": 0.3,
        "smallest_spread": "0.002 eV",
        "tolerance": "0.001 eV",
    },
    "convergence": {
        "rounds": 2,
        "hull_tolerance": "0.001 eV",
        "max_rounds": 12,
        "max_labels": 100,
        "verify": False,
        "verify_window": "0.02 eV",
        "verify_competitors": 1,
    },
}
"""Defaults of campaign files in version 4, by section and, for plug-ins, by kind.

They stay as they are here, whatever the defaults become. The default of CHGNet's ``pretrained``
depended on other fields, so that its stored value counts as given.
"""


def to_version_5(database: Database[Stored]) -> None:
    """Bring campaigns, labels and rounds into their form in version 5; safe to repeat.

    Parameters
    ----------
    database
        Of version 4.
    """
    create_collections(database)
    labels = database[LabelDoc.collection]
    for name in ("unusable_1", "converged_1", "resolved_1"):
        if name in labels.index_information():
            labels.drop_index(name)
    facts = ("unusable", "converged", "resolved")
    for label in labels.find(_OLD, dict.fromkeys(facts, 1)):
        refusal = refusal_of(*(label[fact] for fact in facts))
        change = {"$set": {"refusal": refusal} | _NEW}
        labels.update_one({"_id": label["_id"]}, change, bypass_document_validation=True)
    campaigns = database[CampaignDoc.collection]
    for record in list(campaigns.find(_OLD)):
        spec = split_spec(record["spec"])
        campaigns.update_one(
            {"_id": record["_id"]},
            {"$set": {"spec": spec} | _NEW},
            bypass_document_validation=True,
        )
    rounds = database[RoundDoc.collection]
    for record in list(rounds.find(_OLD)):
        assessment = _assessment(database, record)
        rounds.update_one(
            {"_id": record["_id"]},
            {"$set": {"assessment": assessment} | _NEW},
            bypass_document_validation=True,
        )
    for document in DOCUMENTS:
        database[document.collection].update_many(
            _OLD, {"$set": _NEW}, bypass_document_validation=True
        )


def split_spec(spec: Stored) -> Stored:
    """Return the contents of a campaign with default values apart from what its file said.

    Parameters
    ----------
    spec
        As version 4 kept it; ``campaign`` has every field.

    Returns
    -------
    dict
        ``campaign`` without the fields that have their default, and ``defaults`` with these. What
        versions before 4 did not know has the default of version 4.
    """
    if "campaign" not in spec:
        return spec
    given = deepcopy(spec["campaign"])
    defaults = _take(given, {"seed": 1})
    for name, fields in DEFAULTS.items():
        section, _, inner = name.partition(".")
        found = given.setdefault(section, {})
        if section in ("labeler", "potential"):
            if found["kind"] == inner:
                defaults[section] = _take(found, fields)
        elif inner:
            defaults[section][inner] = _take(found.setdefault(inner, {}), fields)
            _prune(found, inner)
        else:
            defaults[section] = _take(found, fields)
        _prune(given, section)
    if given["labeler"]["kind"] == "vasp":
        # These windows held until a campaign had its own. Given, they would always hold.
        defaults["labeler"].pop("moment_windows", None)
    return spec | {"campaign": given, "defaults": defaults}


def _take(given: Stored, defaults: Stored) -> Stored:
    """Remove from a section what has its default; return what it leaves to the defaults."""
    left = {name: value for name, value in defaults.items() if given.get(name, value) == value}
    for name in left:
        given.pop(name, None)
    return left


def _prune(given: Stored, name: str) -> None:
    if not given[name]:
        del given[name]


def _assessment(database: Database[Stored], record: Stored) -> Stored | None:
    """Return the assessment of a round in its present form, its predictions in a file."""
    if record["assessment"] is None:
        return None
    found = dict(record["assessment"])
    keys, energies = found.pop("label_keys", None), found.pop("member_energies", None)
    if keys is not None:
        found["predictions_file"] = _file(database, record["_id"], keys, energies)
    return Assessment.model_validate(found).model_dump()


def _file(
    database: Database[Stored], doc_id: str, keys: list[str], energies: list[list[float]]
) -> str:
    """Store the predictions of a round's committee in GridFS and return the file's id."""
    files, name = gridfs.GridFS(database, collection="weights"), f"{doc_id}/predictions"
    for file in files.find({"filename": name}):  # of a migration that was killed
        files.delete(file._id)
    content = {"keys": keys, "energies": np.array(energies, dtype="<f8").tobytes()}
    return str(files.put(bson.encode(content), filename=name))
