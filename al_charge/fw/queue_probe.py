"""What a job would find: checked in a new shell by the Python that the job would run."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

MARK = "al-charge-environment:"
"""Prefix of the one line of JSON; modules and profiles may print lines of their own."""
_PACKAGES = ("fireworks", "pymongo", "ase", "pymatgen", "torch")

PROBE_TIMEOUT = 300.0
"""Seconds; loading modules and importing torch may be slow on a network file system."""

_SCRIPT = """
{pre_rocket}
loaded=$?
program=$(command -v al-charge) || exit 3
python="$(dirname "$program")/python"
[ -x "$python" ] || python=python
"$python" -W ignore -m al_charge.fw.queue_probe {campaign} || exit 4
exit $((loaded ? 5 : 0))
"""
_FAILURES = {
    3: "al-charge is not found; load what it needs, such as: source /path/to/.venv/bin/activate",
    4: "its Python cannot run al-charge",
    5: "its last command fails",
}

Found = tuple[Literal["ok", "warning", "error"], str, str]


def probe(pre_rocket: str, categories: Sequence[str], campaign: Path | None) -> Iterator[Found]:
    """Check what jobs with some first lines would have on their machine.

    Parameters
    ----------
    pre_rocket
        What the jobs run first.
    categories
        Those of the jobs; a GPU is looked for if ``gpu`` is among them, an engine if ``dft`` is.
    campaign
        File whose labeler has to be installed; None for no labeler.

    Yields
    ------
    tuple
        Level, what was checked, and what was found.
    """
    what = f"environment of {', '.join(categories)}"
    label = campaign is not None and "dft" in categories
    script = _SCRIPT.format(pre_rocket=pre_rocket, campaign='"$AL_CHARGE_PROBED"' if label else "")
    try:
        done = subprocess.run(
            ["bash", "-c", script],
            env=os.environ | {"AL_CHARGE_PROBED": str(campaign)},
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        yield "error", what, f"pre_rocket and imports take longer than {PROBE_TIMEOUT:.0f} s"
        return
    complaint = (done.stderr.strip().splitlines() or [""])[-1][:200]
    said = f" ({complaint})" if complaint else ""
    if done.returncode in _FAILURES:
        yield "error", what, f"pre_rocket: {_FAILURES[done.returncode]}{said}"
    elif complaint:
        yield "warning", what, f"pre_rocket says: {complaint}"
    _, mark, rest = done.stdout.rpartition(MARK)
    if mark:
        yield from _judge(what, json.loads(rest), gpu="gpu" in categories)


def _judge(what: str, found: dict[str, Any], *, gpu: bool) -> Iterator[Found]:
    for missing in found["missing"]:
        yield "error", what, f"cannot import {missing}"
    if not found["missing"]:
        yield "ok", what, f"al-charge {found['version']} and its packages import"
    if gpu and found["gpus"]:
        yield "ok", "gpu", f"torch sees {found['gpus']}"
    elif gpu and found["gpu_build"]:
        yield "ok", "gpu", "torch sees none here, as is usual on a login node"
    elif gpu:
        yield "warning", "gpu", "this torch is built without GPUs; training will use the cores"
    if found["labeler"]:
        yield "error", "labeler", found["labeler"]
    elif found["labeler"] is not None:
        yield "ok", "labeler", "what it needs is there"


def environment(campaign: Path | None) -> dict[str, Any]:
    """Return what is installed where this runs.

    Parameters
    ----------
    campaign
        File of the campaign whose labeler is looked for; None for no labeler.

    Returns
    -------
    dict
        ``version``; packages that do not import (``missing``); ``gpus`` and whether torch has a
        ``gpu_build``; what the ``labeler`` lacks, empty for nothing.
    """
    found: dict[str, Any] = {
        "version": version("al-charge"),
        "missing": [],
        "gpus": 0,
        "gpu_build": False,
        "labeler": None if campaign is None else _lack(campaign),
    }
    for name in _PACKAGES:
        try:
            module = importlib.import_module(name)
        except Exception as error:  # whatever a broken installation raises
            line = " ".join(f"{name}: {type(error).__name__}: {error}".split())
            found["missing"].append(line[:200])
            continue
        if name == "torch":
            found["gpus"] = module.cuda.device_count() if module.cuda.is_available() else 0
            found["gpu_build"] = bool(module.version.cuda or module.version.hip)
    return found


def _lack(campaign: Path) -> str:
    """Return what the labeler of a campaign lacks here, or an empty string."""
    from al_charge.errors import AlChargeError
    from al_charge.labelers.plugin import LABELERS
    from al_charge.loop.spec import load_spec
    from al_charge.loop.submit import check_spec

    try:
        spec = load_spec(campaign)
        check_spec(spec)
        LABELERS.of(spec.labeler).check_machine(spec.labeler)
    except AlChargeError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    print(MARK + json.dumps(environment(Path(sys.argv[1]) if len(sys.argv) > 1 else None)))
