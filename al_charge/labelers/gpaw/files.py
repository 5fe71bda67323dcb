"""The files of a GPAW job."""

from __future__ import annotations

import hashlib
import json
from typing import Any

INPUT = "input.json"
"""What is asked for."""
RESULT = "result.json"
"""What GPAW found."""
DENSITY = "density.npz"
"""The all-electron density; there until the charges have been found."""
BADER = "bader.json"
"""The Bader charges, or why there are none."""
NO_SCF = "SCF did not converge"
"""Begins the line by which a run tells that no attempt has converged."""


def identity(job: dict[str, Any]) -> str:
    """Return what tells one job from another."""
    return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:16]
