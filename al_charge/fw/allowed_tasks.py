"""What may come out of the database as code: this package's Firetasks, and nothing else.

A document of FireWorks names a class by its module, and FireWorks imports and creates whatever is
named, anywhere in the document. So whoever may write to the database could run any code as the user
of every worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fireworks.utilities import fw_serializers

from al_charge.errors import AlChargeError

ALLOWED_TASKS = frozenset(
    f"{{{{al_charge.fw.tasks.{name}Task}}}}"
    for name in ("Propose", "Select", "Label", "Explore", "Metal", "Train", "Assess")
)
"""Firetasks that are run, by the names that FireWorks gives them."""

COMMANDS = frozenset({"_tasks", "_category", "_add_launchpad_and_fw_id", "_exception_details"})
"""Fields of a Firework's spec that FireWorks acts on and that ours have."""

_QUEUE_ADAPTER = "{{al_charge.fw.queue_adapter.NamedJobsAdapter}}"
"""Created from a user's own file, through the same function."""

_load = fw_serializers.load_object


class ForeignTaskError(AlChargeError):
    """A document of FireWorks names a class that is not allowed."""


def allow_only_our_tasks() -> None:
    """Make FireWorks refuse, in this process, objects of all classes but ours."""
    # The one function through which every document passes; FireWorks has no setting for it.
    fw_serializers.load_object = _load_ours
    # Otherwise "@module" and "@class" create an object of any installed class.
    fw_serializers.DECODE_MONTY = False


def refuse_other_commands(spec: Mapping[str, Any]) -> None:
    """Refuse a Firework that asks FireWorks for more than to run its tasks.

    Other fields of a spec that FireWorks acts on copy files, choose folders, or run programs beside
    the task.

    Parameters
    ----------
    spec
        The Firework's spec.

    Raises
    ------
    ForeignTaskError
        If the spec has such a field.
    """
    if foreign := sorted(key for key in spec if key.startswith("_") and key not in COMMANDS):
        raise ForeignTaskError(
            f"a task of al-charge has no {', '.join(foreign)}; it is not run",
            where="FireWorks",
            remedy="see 'al-charge doctor', and who may write the database",
        )


def _load_ours(document: Mapping[str, Any]) -> Any:
    name = document["_fw_name"]
    if name not in ALLOWED_TASKS and name != _QUEUE_ADAPTER:
        raise ForeignTaskError(
            f"'{name}' is not a task of al-charge; it is not run",
            where="FireWorks",
            remedy="see 'al-charge doctor', and who may write the database",
        )
    return _load(document)
