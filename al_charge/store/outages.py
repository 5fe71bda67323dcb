"""What an error of the database's client says, in one line that a person can use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from al_charge.errors import one_line

if TYPE_CHECKING:
    from pymongo.errors import PyMongoError

REFUSED = 121
"""Code of the error that a document does not fit its validator."""
_NO_PRIMARY = (
    "No replica set members",
    "not primary",
    "node is recovering",
    "primary stepped down",
)


def reason_of(error: PyMongoError) -> str:
    """Return why the database did not do what it was asked for.

    The client's own text describes every server that it knows of.

    Parameters
    ----------
    error
        Of the client.

    Returns
    -------
    str
        The reason, in one line.
    """
    from pymongo.errors import ConnectionFailure, OperationFailure, ServerSelectionTimeoutError

    if isinstance(error, OperationFailure) and error.code == REFUSED:
        return "it refuses a document that does not fit its validators"
    if isinstance(error, OperationFailure):
        return one_line(str((error.details or {}).get("errmsg", error)))
    if not isinstance(error, ConnectionFailure):
        return one_line(str(error))
    text = str(error)
    if any(told in text for told in _NO_PRIMARY):
        return "its replica set has no primary at the moment"
    if "certificate verify failed" in text or "mismatch" in text:
        reason = text.partition("certificate verify failed")[2].partition("(_ssl")[0]
        return f"the server's certificate is not trusted{reason.rstrip(': ')}"
    if "SSL" in text or "TLS" in text:
        return "no MongoDB answers there over TLS"
    if "connection closed" in text or "reset by peer" in text:
        return "no MongoDB answers there, or it has as many connections as it allows"
    if isinstance(error, ServerSelectionTimeoutError):
        return "no MongoDB answers there"
    return "the connection was lost"
