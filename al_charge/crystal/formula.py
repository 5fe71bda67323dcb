"""Formulas of one unit, with fractions in them: what x is given per."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from fractions import Fraction

from pymatgen.core.composition import Composition
from pymatgen.core.periodic_table import Element

from al_charge.crystal.host_spec import HostSpec
from al_charge.errors import InputError

LARGEST_DEVIATION = 0.01
"""How far an amount in a formula may be from that of the structure; 0.333 or 0.34 stand for 1/3."""
_FRACTION = re.compile(r"(\d+)/(\d+)")


def amounts_in(formula: str) -> dict[str, Fraction]:
    """Return the amounts of the elements in a formula.

    Parameters
    ----------
    formula
        Such as ``Na3V2(PO4)3``, ``LiNi0.5Mn1.5O4`` or ``LiNi1/3Mn1/3Co1/3O2``.

    Returns
    -------
    dict
        By element; decimals as they are written.

    Raises
    ------
    ValueError
        If it is not a formula.
    """
    try:
        plain = _FRACTION.sub(lambda found: f"{int(found[1]) / int(found[2]):.12f}", formula)
        amounts = Composition(plain, strict=True).get_el_amt_dict().items()
        return {el: Fraction(amount).limit_denominator(10_000) for el, amount in amounts}
    except (ArithmeticError, ValueError) as error:
        raise ValueError(f"'{formula}' is not a formula") from error


def written(amounts: Mapping[str, Fraction]) -> str:
    """Write a formula: amounts of one left out, others as decimals or, such as 1/3, as fractions.

    Parameters
    ----------
    amounts
        By element.

    Returns
    -------
    str
        In the conventional order of elements, the most electropositive first.
    """

    def amount_of(amount: Fraction) -> str:
        terminates = 10_000 % amount.denominator == 0
        return "" if amount == 1 else f"{float(amount):g}" if terminates else str(amount)

    ordered = sorted(amounts, key=lambda element: (Element(element).X, element))
    return "".join(element + amount_of(amounts[element]) for element in ordered)


def redox_sites_per_formula(spec: HostSpec, cell: Mapping[str, int], sites: int) -> Fraction:
    """Return how many redox sites of a supercell make one formula unit.

    Parameters
    ----------
    spec
        The specification of a host in a campaign file.
    cell
        Number of sites of each element in the supercell.
    sites
        Number of redox sites in it.

    Returns
    -------
    Fraction
        By the formula of the specification, or its number of redox sites.

    Raises
    ------
    InputError
        If the formula does not fit the supercell, it holds no whole number of formula units, or the
        formula has another number of redox sites than the specification.
    """
    given = spec.redox_sites_per_formula
    if spec.formula is None:
        given = given or 1
        if sites % given:
            raise InputError(
                f"{sites} redox sites do not make whole formula units of {given}",
                where="host.redox_sites_per_formula",
            )
        return Fraction(given)
    found = Fraction(sites, units_in_cell(spec.formula, cell, spec.working_ion))
    if given is not None and given != found:
        raise InputError(
            f"{spec.formula} has {found} redox sites, not {given}",
            where="host.redox_sites_per_formula",
            remedy="leave it out",
        )
    return found


def units_in_cell(formula: str, cell: Mapping[str, int], working_ion: str) -> int:
    """Return how many formula units a cell holds, by all elements but the working ion.

    Parameters
    ----------
    formula
        One formula unit, with any amount of the working ion.
    cell
        Number of atoms of each element.
    working_ion
        Element of the working ion.

    Returns
    -------
    int
        1 or more.

    Raises
    ------
    InputError
        If it is not a formula, the cell has another framework, or holds no whole number of units.
    """
    try:
        amounts = amounts_in(formula)
    except ValueError as error:
        raise InputError(
            str(error), where="host.formula", remedy="write it like LiNi0.5Mn1.5O4 or Na3V2(PO4)3"
        ) from error
    amounts.pop(working_ion, None)
    framework = {el: number for el, number in cell.items() if el != working_ion}
    other = usual_formula(cell, working_ion)
    if amounts.keys() == framework.keys():
        # The largest amount is the least rounded one.
        largest = max(amounts, key=lambda element: amounts[element])
        exact = Fraction(framework[largest]) / amounts[largest]
        units = round(exact)
        if units and all(
            round(units * amounts[el]) == number
            and abs(amounts[el] - Fraction(number, units)) <= LARGEST_DEVIATION
            for el, number in framework.items()
        ):
            return units
        if all(
            abs(amounts[el] - number / exact) <= LARGEST_DEVIATION
            for el, number in framework.items()
        ):
            raise InputError(
                f"the cell holds {exact.limit_denominator(100)} of {formula}",
                where="host.formula",
                remedy=f"choose another supercell or another formula, such as '{other}'",
            )
    whole = Composition(framework).reduced_formula
    raise InputError(
        f"'{formula}' does not fit: without {working_ion} the structure is {whole}",
        where="host.formula",
        remedy=f"write a formula of that, such as '{other}'",
    )


def usual_formula(cell: Mapping[str, int], working_ion: str) -> str:
    """Return the formula unit that the field would choose for a cell.

    Parameters
    ----------
    cell
        Number of atoms of each element, working ions included.
    working_ion
        Element of the working ion.

    Returns
    -------
    str
        With one working ion where that leaves whole numbers of anions and of metals, such as
        ``LiMn1.5Ni0.5O4``; else in smallest whole numbers, such as ``Na3V2(PO4)3``.
    """
    ions = cell.get(working_ion, 0)
    others = {el: number for el, number in cell.items() if el != working_ion and number}
    metals = sum(number for el, number in others.items() if Element(el).is_metal)
    anions = [number for el, number in others.items() if not Element(el).is_metal]
    simple = ions > 0 and len(anions) == 1 and metals % ions == anions[0] % ions == 0
    units = ions if simple else math.gcd(*others.values(), *([ions] if ions else []))
    amounts = {el: Fraction(number, units) for el, number in cell.items() if number}
    if all(amount.denominator == 1 for amount in amounts.values()):
        return str(Composition({el: int(n) for el, n in amounts.items()}).reduced_formula)
    return written(amounts)
