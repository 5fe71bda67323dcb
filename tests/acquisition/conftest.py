"""Choices among candidates of a hull between end members at zero."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from al_charge.acquisition.plugin import Candidate, Choice

MEV = 1e-3
ENDS = [(Fraction(0), 0.0), (Fraction(1), 0.0)]


@pytest.fixture(scope="session")
def choose() -> Callable[..., Choice]:
    """Make a choice; energies and spreads in meV per formula unit, candidates named a, b, c, ..."""

    def make(
        x: Sequence[Fraction],
        mean: Sequence[float],
        spread: Sequence[float],
        correlation: NDArray[np.float64] | None = None,
        cost: Sequence[float] = (),
        pending: str = "",
        count: int = 10,
        tolerance: float = 1.0,
        hull: Sequence[tuple[Fraction, float]] = ENDS,
    ) -> Choice:
        sigma = MEV * np.array(spread, dtype=float)
        shared = np.eye(len(x)) if correlation is None else correlation
        return Choice(
            candidates=[
                Candidate(chr(ord("a") + i), one, np.array([float(i)]), price)
                for i, (one, price) in enumerate(zip(x, cost or [1.0] * len(x), strict=True))
            ],
            mean=MEV * np.array(mean, dtype=float),
            covariance=shared * np.outer(sigma, sigma),
            hull=hull,
            labelled=[],
            pending=frozenset(pending),
            count=count,
            tolerance=MEV * tolerance,
        )

    return make
