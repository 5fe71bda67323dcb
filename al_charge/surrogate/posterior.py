"""What a committee says, weighed against what a surrogate of the labels says.

The size of a committee's errors is that of its calibrated bars. They are alike for alike
configurations, as those of a surrogate are that knows the labels alone, for these are what a
committee has learnt from. So they vanish at a label, do not average out between candidates, and a
committee that is unsure of a candidate is believed less than the surrogate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.host import Host
from al_charge.surrogate.polynomial import occupations_of
from al_charge.surrogate.surrogate import Observation, Prediction, Surrogate, fit_surrogate

Array = NDArray[np.float64]

WIDER = 1.3
"""How much larger errors are, of those that turn out to be the lowest of many, than of labels that
are left out. Measured: with it, the chance below the hull is as large as it is told
(``benchmarks/table_campaigns.py``)."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """The joint distribution of energies; made by `combine`.

    Attributes
    ----------
    surrogate
        Fitted to labels of minima and to candidates.
    """

    surrogate: Surrogate = field(repr=False)

    def predict(self, host: Host, occupations: NDArray[np.int8]) -> Prediction:
        """Return the energies of any configurations.

        Parameters
        ----------
        host
            A cell of the crystal.
        occupations
            The configurations, shape (n_configs, n_variable_sites).

        Returns
        -------
        Prediction
            Of several calls they are one joint distribution.
        """
        found = self.surrogate.predict(host, occupations)
        return Prediction(found.mean, self.widening * found.root, self.widening * found.own)

    def screen(self, host: Host, occupations: NDArray[np.int8]) -> tuple[Array, Array]:
        """Return the means and deviations of `predict` for any number of configurations.

        Parameters
        ----------
        host
            A cell of the crystal.
        occupations
            The configurations, shape (n_configs, n_variable_sites).

        Returns
        -------
        tuple of ndarray
            eV per formula unit, shape (n_configs,).
        """
        mean, deviation = self.surrogate.screen(host, occupations)
        return mean, self.widening * deviation

    @cached_property
    def widening(self) -> float:
        """How much larger errors are than the surrogate thinks.

        It is `WIDER`, times what is found by leaving out one label at a time if that is above 1.
        """
        error, deviation = self.surrogate.left_out()
        exact = np.array([one.noise == 0 for one in self.surrogate.observations])
        if not exact.any():
            return WIDER
        return WIDER * max(1.0, float(np.sqrt(np.mean((error / deviation)[exact] ** 2))))


def combine(
    labelled: Sequence[Observation], predicted: Sequence[Observation], learnt: Surrogate
) -> Posterior:
    """Weigh what a committee says against what a surrogate of the labels says.

    Parameters
    ----------
    labelled
        Labels of minima.
    predicted
        Energies that a committee predicts of others, with its bars as noise.
    learnt
        Fitted to the labels that the committee has learnt from: which of its errors are alike.

    Returns
    -------
    Posterior
        Of labels and predictions; of what is learnt if there are none.
    """
    known = [*labelled, *alike(predicted, learnt)]
    return Posterior(fit_surrogate(known) if known else learnt)


def alike(noisy: Sequence[Observation], learnt: Surrogate) -> list[Observation]:
    """Return what a committee says, with what its errors have in common.

    Parameters
    ----------
    noisy
        Energies that a committee predicts, with its bars as noise.
    learnt
        Fitted to the labels that the committee has learnt from: which of its errors are alike.

    Returns
    -------
    list of Observation
        With the same errors in all. What is labelled errs for itself: it is another geometry.
    """
    if not noisy:
        return []
    like = predict_all(learnt, [(one.host, one.config) for one in noisy])
    found = []
    for one, deviation, own, root in zip(noisy, like.deviation, like.own, like.root, strict=True):
        size = one.noise / deviation if deviation else 0.0
        found.append(
            replace(one, noise=float(size * own), common=size * root) if deviation else one
        )
    return found


def predict_all(
    posterior: Posterior | Surrogate, places: Sequence[tuple[Host, Configuration]]
) -> Prediction:
    """Return the joint distribution of configurations of any cells.

    Parameters
    ----------
    posterior
        What is known.
    places
        At least one cell with a configuration of it.

    Returns
    -------
    Prediction
        In the order given.
    """
    hosts = {host.fingerprint: host for host, _ in places}
    parts, order = [], list[int]()
    for fingerprint, host in hosts.items():
        some = [i for i, (home, _) in enumerate(places) if home.fingerprint == fingerprint]
        rows = occupations_of([places[i][1] for i in some], host)
        parts.append(posterior.predict(host, rows))
        order += some
    return part_of(together(parts), np.argsort(order))


def together(parts: Sequence[Prediction]) -> Prediction:
    """Return predictions as one.

    Parameters
    ----------
    parts
        By one posterior, such as of several cells; at least one.

    Returns
    -------
    Prediction
        In the order given.
    """
    return Prediction(
        np.concatenate([part.mean for part in parts]),
        np.vstack([part.root for part in parts]),
        np.concatenate([part.own for part in parts]),
    )


def part_of(found: Prediction, some: NDArray[np.bool_] | NDArray[np.int64]) -> Prediction:
    """Return the prediction of some of the configurations.

    Parameters
    ----------
    found
        Of all of them.
    some
        Which ones.

    Returns
    -------
    Prediction
        In the order of ``some``.
    """
    return Prediction(found.mean[some], found.root[some], found.own[some])
