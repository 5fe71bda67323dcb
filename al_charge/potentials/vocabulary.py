"""The species vocabulary: which node species a potential tells apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core.periodic_table import Element

from al_charge.crystal.species import charge_of, element_of
from al_charge.errors import AlChargeError


@dataclass(frozen=True)
class Vocabulary:
    """Node species of a potential, in the order of its embedding's rows.

    Parameters
    ----------
    tokens
        Species tokens (``Fe3+``) of a charge-aware potential, element symbols of a blind one.
    charge_aware
        Whether charge states are told apart.
    """

    tokens: tuple[str, ...]
    charge_aware: bool

    @classmethod
    def of(cls, species: Iterable[str], *, charge_aware: bool) -> Vocabulary:
        """Return the vocabulary of all species given, in alphabetical order."""
        return cls((), charge_aware).extended(species)

    def __len__(self) -> int:
        """Return the number of species."""
        return len(self.tokens)

    def name(self, species: str) -> str:
        """Return the row's name that a species token falls under."""
        return species if self.charge_aware else element_of(species)

    def index(self, species: Iterable[str]) -> NDArray[np.int64]:
        """Return the row of every species token, shape (n_atoms,).

        Raises
        ------
        AlChargeError
            If the vocabulary lacks one.
        """
        rows = {token: row for row, token in enumerate(self.tokens)}
        names = [self.name(str(token)) for token in species]
        if missing := sorted(set(names) - set(rows)):
            raise AlChargeError(
                f"the potential does not know {', '.join(missing)}",
                where="species",
                remedy="extend it with these species and train it on them",
            )
        return np.array([rows[name] for name in names], dtype=np.int64)

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Atomic number of every row, shape (n_tokens,)."""
        return np.array([Element(_element(token)).Z for token in self.tokens], dtype=np.int64)

    def extended(self, species: Iterable[str]) -> Vocabulary:
        """Return a vocabulary whose rows begin with this one's and go on with new species."""
        new = sorted({self.name(str(token)) for token in species} - set(self.tokens))
        return Vocabulary(self.tokens + tuple(new), self.charge_aware)

    def blind(self) -> Vocabulary:
        """Return the vocabulary of the elements alone."""
        return Vocabulary(tuple(sorted({_element(token) for token in self.tokens})), False)

    def parents(self, old: Vocabulary) -> list[int | None]:
        """Return for every row here the row of ``old`` that it starts from.

        That is the same token, or else the one of the same element that is nearest in charge, or
        none for an element that ``old`` does not have.
        """
        return [_parent(token, old.tokens) for token in self.tokens]


def _parent(token: str, tokens: tuple[str, ...]) -> int | None:
    if token in tokens:
        return tokens.index(token)
    kin = [row for row, other in enumerate(tokens) if _element(other) == _element(token)]
    return min(kin, key=lambda row: abs(_charge(tokens[row]) - _charge(token)), default=None)


def _is_element(token: str) -> bool:
    return token.isalpha()


def _element(token: str) -> str:
    return token if _is_element(token) else element_of(token)


def _charge(token: str) -> int:
    return 0 if _is_element(token) else charge_of(token)
