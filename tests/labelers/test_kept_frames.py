"""Which geometries of a relaxation a label keeps."""

from __future__ import annotations

import numpy as np
import pytest

from al_charge.labelers.kept_frames import kept_frames


@pytest.mark.parametrize(
    ("energies", "kept"),
    [
        ([-1.0], [0]),
        ([-1.0, -2.0], [0, 1]),
        ([-2.0, -3.0, -1.0], [0, 2]),  # it ends higher than it began
        ([-1.0, -1.0, -1.0], [0, 2]),
        ([16.0, 15.0, 9.0, 4.0, 3.9, 1.0, 0.1, 0.0], [0, 2, 3, 5, 7]),
        ([16.0, 10.0, 0.0], [0, 1, 2]),
    ],
)
def test_frames_between_are_evenly_spaced_in_the_distance_from_the_minimum(
    energies: list[float], kept: list[int]
) -> None:
    assert kept_frames(energies) == kept
    assert kept_frames((np.array(energies) - 100.0).tolist()) == kept
