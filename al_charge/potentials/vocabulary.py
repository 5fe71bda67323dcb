"""The species vocabulary: the node species that a potential distinguishes."""

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
        Whether charge states are distinguished.
    """

    tokens: tuple[str, ...]
    charge_aware: bool

    @classmethod
    def of(cls, species: Iterable[str], *, charge_aware: bool) -> Vocabulary:
        """Return the vocabulary of all species given.

        Parameters
        ----------
        species
            Tokens such as ``Fe3+``, repeated ones among them.
        charge_aware
            Whether charge states are distinguished.

        Returns
        -------
        Vocabulary
            In alphabetical order.
        """
        return cls((), charge_aware).extended(species)

    def __len__(self) -> int:
        """Return the number of species."""
        return len(self.tokens)

    def name(self, species: str) -> str:
        """Return the name of the row that a species token has.

        Parameters
        ----------
        species
            Token such as ``Fe3+``.

        Returns
        -------
        str
            The token, or its element in a blind vocabulary.
        """
        return species if self.charge_aware else element_of(species)

    def index(self, species: Iterable[str]) -> NDArray[np.int64]:
        """Return the row of every species token.

        Parameters
        ----------
        species
            Tokens, shape (n_atoms,).

        Returns
        -------
        ndarray, shape (n_atoms,)
            Rows, from zero.

        Raises
        ------
        AlChargeError
            If the vocabulary lacks one.
        """
        rows = {token: row for row, token in enumerate(self.tokens)}
        tokens = [str(token) for token in species]
        names = {token: self.name(token) for token in dict.fromkeys(tokens)}
        if missing := sorted(set(names.values()) - set(rows)):
            raise AlChargeError(
                f"the potential does not know {', '.join(missing)}",
                where="species",
                remedy="extend it with these species and train it on them",
            )
        places = {token: rows[name] for token, name in names.items()}
        return np.array([places[token] for token in tokens], dtype=np.int64)

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Atomic number of every row, shape (n_tokens,)."""
        return np.array([Element(_element(token)).Z for token in self.tokens], dtype=np.int64)

    def extended(self, species: Iterable[str]) -> Vocabulary:
        """Return a vocabulary whose rows begin with this one's and go on with new species.

        Parameters
        ----------
        species
            Tokens, known ones among them.

        Returns
        -------
        Vocabulary
            New species in alphabetical order.
        """
        new = sorted({self.name(str(token)) for token in species} - set(self.tokens))
        return Vocabulary(self.tokens + tuple(new), self.charge_aware)

    def blind(self) -> Vocabulary:
        """Return the vocabulary of the elements alone.

        Returns
        -------
        Vocabulary
            In alphabetical order.
        """
        return Vocabulary(tuple(sorted({_element(token) for token in self.tokens})), False)

    def parents(self, old: Vocabulary) -> list[int | None]:
        """Return for every row here the row of another vocabulary that it starts from.

        That is the same token, or else the one of the same element that is nearest in charge.

        Parameters
        ----------
        old
            The other vocabulary.

        Returns
        -------
        list of int or None
            None for an element that ``old`` does not have.
        """
        return [_parent(token, old.tokens) for token in self.tokens]


def _parent(token: str, tokens: tuple[str, ...]) -> int | None:
    if token in tokens:
        return tokens.index(token)
    same = [row for row, other in enumerate(tokens) if _element(other) == _element(token)]
    return min(same, key=lambda row: abs(_charge(tokens[row]) - _charge(token)), default=None)


def _is_element(token: str) -> bool:
    return token.isalpha()


def _element(token: str) -> str:
    return token if _is_element(token) else element_of(token)


def _charge(token: str) -> int:
    return 0 if _is_element(token) else charge_of(token)
