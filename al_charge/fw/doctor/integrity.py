"""Findings about documents and files that are not what was written."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from pymongo.errors import OperationFailure

from al_charge.errors import AlChargeError
from al_charge.fw.doctor.finding import RESUMABLE, Finding, Scene, firework_line
from al_charge.fw.retraining import TRAIN_TASK, rerun
from al_charge.store.documents import CampaignDoc, LabelDoc, ModelDoc
from al_charge.store.files import NAMED_FILES
from al_charge.store.integrity import Damage

SAMPLE = 50
"""Documents of each kind that are looked at without ``--deep``."""

_RESTORE = "restore the database from a backup"
_DOCUMENTS = {named.kind: named.document for named in NAMED_FILES}
_AGAIN = {
    LabelDoc: "set it aside and compute the label again, or restore the database from a backup",
    ModelDoc: "set it aside and train the model again, or restore the database from a backup",
}


def damaged(scene: Scene) -> Iterator[Finding]:
    """Find documents and files that their checksums do not fit.

    Parameters
    ----------
    scene
        Where to look; without `Scene.deep` at a sample.

    Yields
    ------
    Finding
        One for each.
    """
    files = scene.store.files.damaged(scene.campaign)
    incomplete = {(file.kind, file.document, file.content) for file in files}
    sample = None if scene.deep else SAMPLE
    for damage in scene.store.integrity.damaged(scene.campaign, sample=sample):
        if (damage.kind, damage.doc_id, damage.content) in incomplete:
            continue  # another finding tells it
        of = f"its {damage.content}: " if damage.content else ""
        yield _finding(scene, f"damaged {damage.kind}", damage, f"{of}{damage.what}")


def missing_files(scene: Scene) -> Iterator[Finding]:
    """Find models, labels, rounds and campaigns whose file is missing or incomplete.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    for file in scene.store.files.damaged(scene.campaign):
        what = f"its {file.content} in GridFS are missing or incomplete"
        damage = Damage(_DOCUMENTS[file.kind], file.document, file.content, what)
        yield _finding(scene, f"half-written {file.kind}", damage, what)


def _finding(scene: Scene, kind: str, damage: Damage, what: str) -> Finding:
    again = damage.document in _AGAIN and _goes_on(scene, damage)
    return Finding(
        kind,
        f"{damage.kind} {damage.doc_id}",
        what,
        _AGAIN[damage.document] if again else _RESTORE,
        partial(_put_aside, scene, damage) if again else None,
    )


def without_models(scene: Scene) -> Iterator[Finding]:
    """Find completed training tasks of campaigns that go on whose model is not there.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    for name in scene.campaigns:
        if scene.store.campaigns.state(name) not in RESUMABLE:
            continue
        done = {"spec.campaign": name, "state": "COMPLETED", "spec._tasks._fw_name": TRAIN_TASK}
        there = {model.doc_id for model in scene.store.models.all(name)}
        for task in scene.launchpad.fireworks.find(done):
            number, member = task["spec"]["round"], task["spec"]["_tasks"][0]["member"]
            if ModelDoc.id_of(name, number, member) not in there:
                yield Finding(
                    "task without model",
                    firework_line(task),
                    "the task is done, but its model is not in the database",
                    "return the task to the queue: it trains the model again",
                    partial(rerun, scene.launchpad, task["fw_id"], name, "COMPLETED"),
                )


def _goes_on(scene: Scene, damage: Damage) -> bool:
    """Return whether every campaign that has selected a label or trained a model can go on."""
    if damage.document is LabelDoc:
        users = scene.store.labels.users(damage.doc_id)
        if any(users.values()):
            return False  # an imported label cannot be made
        names = list(users)
    else:
        names = [damage.doc_id.partition("/")[0]]
    campaigns = scene.store.database[CampaignDoc.collection]
    states = campaigns.distinct("state", {"_id": {"$in": names}})
    return bool(states) and all(state in RESUMABLE for state in states)


def _put_aside(scene: Scene, damage: Damage) -> None:
    try:
        scene.store.integrity.put_aside(damage)
    except OperationFailure as error:
        raise AlChargeError("only an admin of the database may set it aside") from error
