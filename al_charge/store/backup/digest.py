"""What tells whether two collections hold the same documents."""

from __future__ import annotations

import hashlib

_LARGEST = 2**256


class Digest:
    """Number, size and hash of documents, whatever their order, in constant memory.

    The hash is the sum of the SHA-256 of every document's bytes, modulo 2**256: servers give
    documents back in an order of their own.

    Attributes
    ----------
    documents
        How many were added.
    size
        Their size in bytes.
    """

    def __init__(self) -> None:
        self.documents = 0
        self.size = 0
        self._sum = 0

    def add(self, raw: bytes) -> None:
        """Add one document.

        Parameters
        ----------
        raw
            The document as BSON.
        """
        self.documents += 1
        self.size += len(raw)
        self._sum = (self._sum + int.from_bytes(hashlib.sha256(raw).digest())) % _LARGEST

    @property
    def sha256(self) -> str:
        """The hash in 64 hexadecimal digits."""
        return f"{self._sum:064x}"
