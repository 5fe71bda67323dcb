"""Open a campaign of a database."""

from __future__ import annotations

import warnings
from pathlib import Path

from al_charge.api.campaign import Campaign
from al_charge.loop import campaign as loop
from al_charge.loop.spec import load_spec
from al_charge.store.connection import connect
from al_charge.store.embedded import refuse_never_used
from al_charge.store.mongo import Store
from al_charge.store.settings import settings_from_environment, settings_of


def open_campaign(name: str | Path, database: str | None = None) -> Campaign:
    """Open a campaign.

    Parameters
    ----------
    name
        Name of the campaign, or its file.
    database
        ``mongodb://HOST/NAME``, without a password; by default the one that the file names, else
        the one that the environment variable AL_CHARGE_DATABASE names, else the embedded one, which
        is started if it is not running.

    Returns
    -------
    Campaign
        To be closed by its `close`, or used in a ``with`` statement.

    Raises
    ------
    InputError
        If there is no such campaign or file, or the database cannot be reached.

    Examples
    --------
    >>> import al_charge as ac
    >>> with ac.open("demo-1") as campaign:
    ...     hull = campaign.hull()
    >>> print(hull.vertices[0].x, hull.vertices[-1].x)
    0 1
    """
    settings = settings_from_environment() if database is None else settings_of(database, "open")
    name = str(name)
    if name.endswith((".yaml", ".yml")):
        spec = load_spec(Path(name))
        name, settings = spec.name, settings if database else spec.database or settings
    elif settings is None:
        refuse_never_used(name)
    if settings is not None and (warning := settings.insecurity()) is not None:
        warnings.warn(warning, stacklevel=2)
    store = Store(connect(settings))
    try:
        store.ensure_schema()
        return Campaign(loop.open_campaign(store, name), settings)
    except BaseException:
        store.close()
        raise
