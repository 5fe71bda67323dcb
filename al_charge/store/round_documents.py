"""Documents of rounds: what was selected, and what the assessment of a round found.

A later version adds a number to an assessment as a field with a default: documents that lack it
stay valid.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from al_charge.store.fields import Composition, Document, Number, Part, now


class Vertex(NamedTuple):
    """A vertex of a hull.

    Attributes
    ----------
    x
        Composition, an exact fraction.
    config_hash
        Canonical hash of its configuration.
    """

    x: str
    config_hash: str


class Request(NamedTuple):
    """What became of a static label that a round had requested.

    Attributes
    ----------
    config_hash
        Of the configuration that was requested.
    key
        Of the label.
    missed
        Whether a geometry that a committee relaxed gave no usable label of that configuration.
    """

    config_hash: str
    key: str
    missed: bool


class FailedRelaxation(NamedTuple):
    """A configuration that a verification could not relax.

    Attributes
    ----------
    x
        Its composition, an exact fraction.
    reason
        Why not, in one line.
    """

    x: str
    reason: str


NORMAL_95 = 1.96
"""Half width of the band that holds 95 % of normal errors, in standard deviations."""


class Criterion(Part):
    """One of the conditions of convergence, as it stands after a round.

    Attributes
    ----------
    name
        What must hold, in words.
    met
        Whether it does.
    value
        The present value, in words, with its unit and its limit.
    """

    name: str
    met: bool
    value: str


class PredictedLabel(NamedTuple):
    """A label with what its round's committee had predicted of it; eV per formula unit.

    Attributes
    ----------
    x
        Composition, an exact fraction.
    error
        Predicted minus labelled energy.
    spread
        Standard deviation of the members' predictions, or of committee's and surrogate's together.
    bar
        The error bar that was given: half width of the band that should hold 68 % of errors.
    deciding
        Whether the label is a vertex of the hull or lies within its tolerance of it.
    band_95
        Half width of the band that should hold 95 % of errors; None in earlier versions, which took
        errors to be normal.
    deviation
        How unsure a surrogate was that knew the labels before alone; 0 in earlier versions, and for
        what committee and surrogate predict together.
    """

    x: str
    error: float
    spread: float
    bar: float
    deciding: bool
    band_95: float | None = None
    deviation: float = 0.0

    @property
    def bands(self) -> tuple[float, float]:
        """Half widths of the bands that should hold 68 and 95 % of errors."""
        return self.bar, NORMAL_95 * self.bar if self.band_95 is None else self.band_95


class Prospective(Part):
    """Predictions of a round's labels, made before them, compared with the labels.

    Attributes
    ----------
    labels
        Number of labels compared.
    rmse
        RMS error, eV per formula unit; None without such labels.
    error_over_spread
        RMS of the error divided by its error bar; None if no candidate has one.
    predictions
        Each of them; empty in earlier versions.
    """

    labels: int = 0
    rmse: Number | None = None
    error_over_spread: Number | None = None
    predictions: list[PredictedLabel] = Field(default_factory=list)


class Calibration(Part):
    """Calibration of error bars from the spread of a committee's members, or from deviations.

    Attributes
    ----------
    floor
        Error if all members agree, eV per formula unit.
    scale
        Factor on their standard deviation.
    share
        Error if all members agree, over the deviation of a surrogate that knows the labels alone;
        None in earlier versions, and for what committee and surrogate predict together.
    factors
        Factor on the error bar by composition; 1 if none is given.
    held_out
        Typical error of its members for labels that they were not trained on, eV per formula unit;
        None in earlier versions.
    freedom
        Degrees of freedom of Student's t that errors over bars follow; None in earlier versions,
        which took them to be normal.
    """

    floor: Number = 0.0
    scale: Number = 1.0
    share: Number | None = None
    factors: dict[str, Number] = Field(default_factory=dict)
    held_out: Number | None = None
    freedom: Number | None = None


class WeighedPredictions(Part):
    """How good energies are that committee and surrogate together predict.

    Attributes
    ----------
    predictions
        Those of a round's labels, made before them, compared with the labels.
    calibration
        Of the error bars of the next round's candidates, from this round's predictions and earlier
        ones.
    """

    predictions: list[PredictedLabel]
    calibration: Calibration


class Shares(Part):
    """Fractions of labels within their error bars.

    Attributes
    ----------
    labels
        Number of labels.
    within_68, within_95
        Fractions within the bands that should contain 68 and 95 %; None without labels.
    """

    labels: int
    within_68: Number | None
    within_95: Number | None


class Coverage(Shares):
    """Fractions of a round's labels within the error bars of their predictions.

    The predictions are those that people see: of committee and surrogate together. Earlier versions
    took the committee's alone.

    Attributes
    ----------
    deciding
        The same for the labels that decided the hull.
    """

    deciding: Shares


class Forecast(Part):
    """What is known of one composition; energies are formation energies in eV per formula unit.

    Attributes
    ----------
    x
        The composition, an exact fraction.
    lowest_labelled
        Lowest label; None if nothing is labelled.
    lowest_predicted
        Lowest energy that is predicted for anything without a label; None if all have labels.
    p_lower
        Probability that something lies below the lowest label by more than the tolerance.
    lower_by
        95 % bound of how far anything lies below the lowest label; None if nothing is labelled.
    band_95, band_68
        Lower and upper end of the interval in which the hull lies with this probability.
    """

    x: Composition
    lowest_labelled: Number | None
    lowest_predicted: Number | None
    p_lower: Number
    lower_by: Number | None
    band_95: tuple[float, float]
    band_68: tuple[float, float]


class VoltageForecast(Part):
    """What is known of the voltages, in V.

    Attributes
    ----------
    errors
        RMS error of each step of the labelled hull in order, over sampled hulls.
    mean_error
        The same for the mean voltage.
    band_95, band_68
        Lower and upper end of the interval in which the voltage lies with this probability, between
        neighbouring compositions of the host.
    """

    errors: list[Number]
    mean_error: Number
    band_95: list[tuple[float, float]]
    band_68: list[tuple[float, float]]


class Verification(Part):
    """Result of relaxing the vertices of a hull and their competitors.

    Attributes
    ----------
    relax
        What was relaxed: the ions, or ions and cell.
    relaxed
        Configurations that were relaxed.
    same_vertices
        Whether the vertices are the same configurations as before.
    lowered
        Largest decrease of an energy, eV per formula unit.
    failed
        Configurations that could not be relaxed.
    verified
        Whether every vertex was relaxed and all are the same.
    """

    relax: Literal["none", "ions", "cell"]
    relaxed: int
    same_vertices: bool
    lowered: Number
    failed: list[FailedRelaxation]
    verified: bool


class Assessment(Part):
    """What the assessment of a round found.

    Attributes
    ----------
    spread_scale
        Factor that brings the committee's spread to the size of its held-out errors.
    vertices
        Of the hull, by composition.
    labels
        Usable labels of the campaign.
    criteria
        The conditions of convergence.
    hull_shift
        Largest movement of the hull since the round before, eV per formula unit; None in the
        first round.
    deepest
        How far the deepest candidate lies below the hull by more than its error bar, eV per formula
        unit (0 if none does). Used by an earlier version; None in others.
    p_below_hull
        Probability that any configuration without a label lies below the hull by more than its
        tolerance; None if nothing was predicted, and in earlier versions. Without ``compositions``
        it refers to the round's candidates only.
    unlabelled_vertices
        Vertex compositions whose predicted ground state has no label; None if nothing was
        predicted.
    compositions
        What is known by composition; None if nothing was predicted, and in earlier versions.
    voltages
        What is known of voltages; None with ``compositions``.
    exhaustive
        Whether every configuration was ranked, not only a sample; None with ``compositions``.
    prospective
        How good the committee's predictions of this round's labels were.
    calibration
        Calibration of the error bars of this round's committee; None in earlier versions, which had
        only ``spread_scale``.
    weighed
        The same for what committee and surrogate together predict; None in earlier versions, in
        which error bars are standard deviations.
    coverage
        How many of this round's labels lie within their error bars; None in earlier versions.
    requests
        Labels that the round requested; None if labels are not static, and in earlier versions.
    verify_next
        Whether the next round verifies the hull.
    verification
        Result of the verification; None in other rounds.
    predictions_file
        Energies of all labels by every member of the committee, and of the round's candidates by
        committee and surrogate before their labels, in GridFS; filled in by the store.
    """

    spread_scale: Number
    vertices: list[Vertex]
    labels: int
    criteria: list[Criterion]
    hull_shift: Number | None = None
    deepest: Number | None = None
    p_below_hull: Number | None = None
    unlabelled_vertices: list[Composition] | None = None
    compositions: list[Forecast] | None = None
    voltages: VoltageForecast | None = None
    exhaustive: bool | None = None
    prospective: Prospective = Field(default_factory=Prospective)
    calibration: Calibration | None = None
    weighed: WeighedPredictions | None = None
    coverage: Coverage | None = None
    requests: list[Request] | None = None
    verify_next: bool = False
    verification: Verification | None = None
    predictions_file: str = ""


class RoundDoc(Document):
    """One pass through the loop.

    Attributes
    ----------
    selected
        Ids of the candidates to label, in order; None until they are selected.
    reasons
        Why each of them was selected.
    assessment
        What the assessment found; None until the round is closed.
    stage_seconds
        Wall time of each stage, s.
    progress
        Progress of running tasks, for display: done and total, by the task's name.
    """

    collection: ClassVar[str] = "rounds"

    campaign: str
    number: int = Field(ge=0)
    selected: list[str] | None = None
    reasons: list[str] = Field(default_factory=list)
    assessment: Assessment | None = None
    stage_seconds: dict[str, Number] = Field(default_factory=dict)
    progress: dict[str, list[int]] = Field(default_factory=dict)
    created: datetime = Field(default_factory=now)
    closed: datetime | None = None

    @staticmethod
    def id_of(campaign: str, number: int) -> str:
        """Return the identity of a round.

        Parameters
        ----------
        campaign
            Its campaign.
        number
            Its number, from 0.

        Returns
        -------
        str
            The value of ``_id``.
        """
        return f"{campaign}/{number}"

    @property
    def doc_id(self) -> str:
        """Campaign and number."""
        return self.id_of(self.campaign, self.number)
