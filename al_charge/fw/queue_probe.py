"""The environment of a job, tried in a shell of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from al_charge.fw.job_environment import MARK

PATIENCE = 300.0
"""s; loading modules and importing torch may take long on a cold network file system."""

_SCRIPT = """
{pre_rocket}
loaded=$?
program=$(command -v al-charge) || exit 3
python="$(dirname "$program")/python"
[ -x "$python" ] || python=python
"$python" -W ignore -m al_charge.fw.job_environment {campaign} || exit 4
exit $((loaded ? 5 : 0))
"""
_FAILURES = {
    3: "there is no al-charge; load what it needs, such as: source /path/to/.venv/bin/activate",
    4: "its Python does not run al-charge",
    5: "its last command fails",
}

Found = tuple[Literal["ok", "warning", "error"], str, str]


def probe(pre_rocket: str, categories: Sequence[str], campaign: Path | None) -> Iterator[Found]:
    """Yield level, subject and finding of what jobs with these first lines would have.

    Parameters
    ----------
    pre_rocket
        What the jobs run first.
    categories
        Of the jobs; a GPU is looked for where `gpu` is among them, an engine where `dft` is.
    campaign
        File whose labeler has to be there.
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
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        yield "error", what, f"pre_rocket and imports take longer than {PATIENCE:.0f} s"
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
