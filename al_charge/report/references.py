"""What to cite for a campaign: the methods and programs that it has used."""

from __future__ import annotations

from typing import NamedTuple

from al_charge.loop.campaign import Campaign


class Reference(NamedTuple):
    """A publication.

    Attributes
    ----------
    key
        Of its BibTeX entry.
    why
        What it stands for.
    fields
        Of its BibTeX entry.
    """

    key: str
    why: str
    fields: dict[str, str]


def _article(key: str, why: str, author: str, year: int, where: str, doi: str) -> Reference:
    journal, volume, pages = where.split("; ")
    fields = {"author": author, "journal": journal, "volume": volume, "pages": pages}
    return Reference(key, why, fields | {"year": str(year), "doi": doi})


ALWAYS = (
    _article(
        "Ong2013", "pymatgen: structures, phase diagrams", "Ong, Shyue Ping and others", 2013,
        "Comput. Mater. Sci.; 68; 314--319", "10.1016/j.commatsci.2012.10.028",
    ),
    _article(
        "Larsen2017", "ASE: atoms and optimizers", "Larsen, Ask Hjorth and others", 2017,
        "J. Phys.: Condens. Matter; 29; 273002", "10.1088/1361-648X/aa680e",
    ),
    _article(
        "Jain2015", "FireWorks: workflows", "Jain, Anubhav and others", 2015,
        "Concurr. Comput. Pract. Exp.; 27; 5037--5059", "10.1002/cpe.3505",
    ),
)  # fmt: skip
"""Of every campaign."""
_DFT = (
    _article(
        "Perdew1996", "PBE", "Perdew, John P. and Burke, Kieron and Ernzerhof, Matthias", 1996,
        "Phys. Rev. Lett.; 77; 3865--3868", "10.1103/PhysRevLett.77.3865",
    ),
    _article(
        "Dudarev1998", "DFT+U", "Dudarev, S. L. and others", 1998,
        "Phys. Rev. B; 57; 1505--1509", "10.1103/PhysRevB.57.1505",
    ),
)  # fmt: skip
LABELERS = {
    "gpaw": (
        _article(
            "Mortensen2024", "GPAW", "Mortensen, Jens J{\\o}rgen and others", 2024,
            "J. Chem. Phys.; 160; 092503", "10.1063/5.0182685",
        ),
        *_DFT,
    ),
    "vasp": (
        _article(
            "Kresse1996", "VASP", "Kresse, G. and Furthm{\\\"u}ller, J.", 1996,
            "Phys. Rev. B; 54; 11169--11186", "10.1103/PhysRevB.54.11169",
        ),
        _article(
            "Kresse1999", "PAW datasets of VASP", "Kresse, G. and Joubert, D.", 1999,
            "Phys. Rev. B; 59; 1758--1775", "10.1103/PhysRevB.59.1758",
        ),
        *_DFT,
    ),
}  # fmt: skip
"""By the kind of labeler."""
_PAINN = Reference(
    "Schutt2021",
    "PaiNN",
    {
        "author": 'Sch{\\"u}tt, Kristof T. and Unke, Oliver T. and Gastegger, Michael',
        "booktitle": "Proc. 38th Int. Conf. Machine Learning",
        "volume": "139",
        "pages": "9377--9388",
        "year": "2021",
        "eprint": "2102.03150",
    },
)
POTENTIALS = {
    "painn": (_PAINN,),
    "cpainn": (_PAINN,),
    "mace": (
        Reference(
            "Batatia2022",
            "MACE",
            {
                "author": "Batatia, Ilyes and others",
                "booktitle": "Adv. Neural Inf. Process. Syst.",
                "volume": "35",
                "pages": "11423--11436",
                "year": "2022",
                "eprint": "2206.07697",
            },
        ),
    ),
    "chgnet": (
        _article(
            "Deng2023", "CHGNet", "Deng, Bowen and others", 2023,
            "Nat. Mach. Intell.; 5; 1031--1041", "10.1038/s42256-023-00716-3",
        ),
    ),
}  # fmt: skip
"""By the kind of potential."""


def references_of(campaign: Campaign) -> list[Reference]:
    """Return what to cite for a campaign.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    list of Reference
        Its engine, its potential, and the packages that every campaign uses.
    """
    kinds = (campaign.spec.labeler.kind, campaign.spec.potential.kind)
    return [*LABELERS.get(kinds[0], ()), *POTENTIALS.get(kinds[1], ()), *ALWAYS]


def bibtex(references: list[Reference]) -> str:
    """Return references as BibTeX.

    Parameters
    ----------
    references
        What to cite.

    Returns
    -------
    str
        One entry for each, with a comment that says what it stands for.
    """
    entries = []
    for one in references:
        kind = "article" if "journal" in one.fields else "inproceedings"
        fields = "".join(f"  {name} = {{{value}}},\n" for name, value in one.fields.items())
        entries.append(f"% {one.why}\n@{kind}{{{one.key},\n{fields}}}\n")
    return "\n".join(entries)
