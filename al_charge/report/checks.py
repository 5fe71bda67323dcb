"""A campaign file that was checked, for people."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from al_charge.labelers.dft.settings import DftSettings
from al_charge.labelers.hubbard import u_text
from al_charge.loop.spec import CampaignSpec
from al_charge.report.progress import core_time


def check_lines(spec: CampaignSpec, document: dict[str, Any]) -> list[str]:
    """Return what `al-charge check` prints.

    Parameters
    ----------
    spec
        The campaign.
    document
        What ``al-charge check --json`` prints of it.

    Returns
    -------
    list of str
        One line that says it is valid, and one for each thing to know of it.
    """
    compositions = document["compositions"]
    return [
        f"campaign '{spec.name}' is valid: {document['distinct']} distinct configurations at "
        f"{len(compositions)} compositions, labelled by {spec.labeler.kind}, "
        f"{spec.committee.size} {spec.potential.kind} potentials",
        document["x_means"],
        f"space group {document['space_group']}; symmetry operations: {document['operations']}; "
        f"atoms per label: {document['atoms_per_label']}",
        *document["structure"],
        *_supercells(document),
        *(f"{name}: {role}" for name, role in document["sites"].items()),
        *_exclusions(spec, document["exclusions"]),
        *map(_state, document["states"]),
        f"total moment, ferromagnetic: {_moments(document['total_moment'])}",
        *([f"U: {u_text(document['hubbard_u'])}"] if isinstance(spec.labeler, DftSettings) else []),
        *_kpoints(document["kpoints"]),
        *_runs(document["spin_runs"]),
        f"configurations: {', '.join(f'{n} at x = {x}' for x, n in compositions.items())}",
        *_expected(document["expected"]),
        *([document["labeler_remark"]] if document["labeler_remark"] else []),
        *(f"warning: {warning}" for warning in document["warnings"]),
        *([f"not ready to submit on this machine: {m}"] if (m := document["missing"]) else []),
    ]


def _supercells(document: dict[str, Any]) -> list[str]:
    """Return a line for each of several supercells, and one for those that cannot be."""
    found = document["supercells"]
    lines = [f"{len(found)} supercells, in units of the primitive cell's vectors:"] if found else []
    for cell in found:
        atoms, new = cell["atoms"], cell["in_no_smaller"]
        lines.append(
            f"  {_rows(cell['supercell'])}: {atoms} atoms, {cell['distinct']} distinct "
            f"configurations, {new} in no smaller one"
        )
    left_out = document["left_out"]
    lines += [f"  not {_rows(one['supercell'])}: {one['reason']}" for one in left_out]
    return lines


def _rows(matrix: Iterable[Iterable[int]]) -> str:
    return ", ".join(f"[{', '.join(map(str, row))}]" for row in matrix)


def _exclusions(spec: CampaignSpec, exclusions: dict[str, Any] | None) -> list[str]:
    if exclusions is None:
        return []
    nearest, farthest = exclusions["nearest"], exclusions["farthest"]
    distances = f"{nearest:g}" if nearest == farthest else f"{nearest:g} to {farthest:g}"
    return [
        f"min_distance {exclusions['min_distance']:g} A: {exclusions['pairs']} pairs of "
        f"{spec.host.working_ion} sites, {distances} A apart, are never occupied at once; "
        f"that leaves out {exclusions['removed']} distinct configurations"
    ]


def _state(state: dict[str, Any]) -> str:
    spin = f" {state['spin']} spin" if state["spin"] else ""
    window = state["window"]
    if isinstance(window, list):
        window = f"moment window {window[0]:g} to {window[1]:g}"
    ending = f"; {window}" if window else ""
    number = state["unpaired"]
    return f"{state['species']}{spin}: {number} unpaired electron{'s' * (number != 1)}{ending}"


def _moments(totals: dict[str, int | list[int]]) -> str:
    """Return the totals at the lowest and the highest composition."""
    shown = []
    for x in (min(totals, key=Fraction), max(totals, key=Fraction)):
        total = totals[x]
        shown.append(
            f"{' to '.join(map(str, total)) if isinstance(total, list) else total} at x = {x}"
        )
    return ", ".join(shown)


def _kpoints(kpoints: dict[str, Any] | None) -> list[str]:
    if kpoints is None:
        return []
    grid = " x ".join(map(str, kpoints["grid"]))
    return [f"k-points: {grid}, at most {kpoints['spacing']:g}/A apart"]


def _runs(most: int) -> list[str]:
    if not most:
        return []
    return [
        "end members are first run in other spin states and magnetic orders: at most "
        f"{most} run{'s' * (most > 1)} each"
    ]


def _expected(expected: dict[str, Any]) -> list[str]:
    """Return how many labels there are going to be, and what they are going to cost."""
    labels, price, hours = (
        expected[key] for key in ("labels", "core_hours_per_label", "core_hours")
    )
    most = expected["max_labels"]
    if labels is None:
        line = f"labels: at most {most}; how many this rule needs has not been measured"
    else:
        least, largest = labels["per_composition"]
        line = (
            f"labels: {_range(labels)} expected, at most {most}; in benchmarks {least:g} to "
            f"{largest:g} per composition were enough"
        )
    if price is None:
        reason = f": {expected['unknown']}" if expected["unknown"] else ""
        return [line, f"cost: not known before the first label{reason}"]
    number = expected["priced"]
    cost = f"{core_time(hours['from'], hours['to'])}, at " if hours else ""
    return [
        line,
        f"cost: {cost}{core_time(price['from'], price['to'])} a label, as {number} label"
        f"{'s' * (number != 1)} of these settings and this size in the database took",
    ]


def _range(of: dict[str, Any]) -> str:
    low, high = (f"{of[end]:.3g}" for end in ("from", "to"))
    return low if low == high else f"{low} to {high}"
