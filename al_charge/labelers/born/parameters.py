"""Parameters of the ionic model, each with its source."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

VERSION = "1"
"""Raised whenever the formulas change; a change of a number changes the hash by itself."""

CHARGE_SCALE = 0.6
"""Partial charge over formal charge: Pedone et al., J. Phys. Chem. B 110, 11780 (2006)."""

PEDONE = "Pedone et al., J. Phys. Chem. B 110, 11780 (2006)"
ADDED = "added for this package"


@dataclass(frozen=True)
class PairParameters:
    """Short-range interaction of two species.

    Attributes
    ----------
    depth, width, length
        Morse term D [(1 - exp(-a (r - r0)))^2 - 1]: D in eV, a in 1/angstrom, r0 in angstrom.
    wall
        C of the term C / r^12, eV angstrom^12.
    tail, contact, decay
        Exponential term A exp(-(r - r1) / s): A in eV, r1 and s in angstrom.
    source
        Where the numbers come from.
    """

    depth: float = 0.0
    width: float = 1.0
    length: float = 1.0
    wall: float = 0.0
    tail: float = 0.0
    contact: float = 0.0
    decay: float = 1.0
    source: str = PEDONE


PAIRS: dict[tuple[str, str], PairParameters] = {
    # Published: D = 0.023363, a = 1.763867, r0 = 3.006315, with which sodium leaves its sites.
    ("Na+", "O2-"): PairParameters(0.03, 3.2, 2.4, 5.0, source=f"{ADDED}; C of {PEDONE}"),
    ("Li+", "O2-"): PairParameters(0.001114, 3.429506, 2.681360, 1.0),
    ("Fe2+", "O2-"): PairParameters(0.078171, 1.822638, 2.658163, 2.0),
    ("Fe3+", "O2-"): PairParameters(0.418981, 1.620376, 2.382183, 2.0),
    ("P5+", "O2-"): PairParameters(0.831326, 2.585833, 1.800790, 1.0),
    ("Si4+", "O2-"): PairParameters(0.340554, 2.006700, 2.1, 1.0),
    ("O2-", "O2-"): PairParameters(0.042395, 1.379316, 3.618701, 22.0),
    ("Na+", "Fe3+"): PairParameters(tail=-0.22, contact=3.3, decay=1.0, source=ADDED),
}
"""Short-range parameters by pair of species tokens; other pairs only meet as charges."""

KNOWN_SPECIES = tuple(sorted({species for pair in PAIRS for species in pair}))
"""Species tokens that the model can describe."""

SHORT_RANGE_CUTOFF = 7.0
"""Distance in angstrom from which short-range terms are zero."""

SWITCH_WIDTH = 1.0
"""Width in angstrom, below the cut-off, over which they go to zero smoothly."""


FITTED_VOLTAGE = 2.95
"""Mean voltage in V of olivine NaxFePO4 between x = 0 and 1 that the sodium reference is fitted to.

In experiment 2.9 to 3.0 V: see Saracibar et al., doi 10.1039/C6CP00762G, and what is cited there.
"""

METAL_ENERGIES = {"Na": 13.51686}
"""eV/atom by working ion: the fitted voltage plus E(NaFePO4) - E(FePO4) of this model.

Not the energy of a metal: an ionic model, whose zero is free ions, has none.
"""


def parameter_hash() -> str:
    """Return the identity of all numbers of the model.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    content = {
        "pairs": {"|".join(pair): asdict(values) for pair, values in sorted(PAIRS.items())},
        "charge_scale": CHARGE_SCALE,
        "cutoff": [SHORT_RANGE_CUTOFF, SWITCH_WIDTH],
        "metals": METAL_ENERGIES,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
