"""The pages, as a Flask application. All addresses are relative, so that tunnels and proxies work.

A page that is open asks for itself every few seconds and takes over the parts that have changed;
where nothing has, the answer is short (304).
"""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlencode

from flask import Flask, Response, abort, make_response, render_template, request
from pymongo.errors import PyMongoError
from werkzeug.exceptions import HTTPException

from al_charge.errors import AlChargeError, InputError
from al_charge.report.names import unicode_formula
from al_charge.report.progress import duration
from al_charge.serve.access import guard
from al_charge.serve.source import Source
from al_charge.store.outages import reason_of


def create_app(source: Source, token: str, hosts: tuple[str, ...]) -> Flask:
    """Return the application.

    Parameters
    ----------
    source
        What it shows.
    token
        What a visitor must know.
    hosts
        Names under which this machine may be asked.

    Returns
    -------
    Flask
        To be served by any WSGI server of one process.
    """
    app = Flask(__name__)
    app.jinja_env.filters |= {
        "duration": duration,
        "iso": _iso,
        "clock": _clock,
        "formula": unicode_formula,
    }
    app.jinja_env.globals |= {"page": _page}
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    guard(app, token, hosts)

    @app.get("/")
    def campaigns() -> Response:
        return _answer("campaigns.html", campaigns=source.campaigns())

    @app.get("/campaign")
    def campaign() -> Response:
        return _answer("campaign.html", view=source.campaign(_name()))

    @app.get("/round")
    def round_of_campaign() -> Response:
        name, number = _name(), _number("number")
        record, jobs, graph = source.round(name, number)
        return _answer("round.html", name=name, record=record, jobs=jobs, graph=graph)

    @app.get("/job")
    def job() -> Response:
        return _answer("job.html", name=_name(), job=source.job(_name(), _number("id")))

    @app.errorhandler(AlChargeError)
    def trouble(error: AlChargeError) -> Response:
        absent = isinstance(error, InputError)
        return _answer("trouble.html", 404 if absent else 503, what=str(error))

    @app.errorhandler(PyMongoError)
    def outage(error: PyMongoError) -> Response:
        return _answer("trouble.html", 503, what=f"The database: {reason_of(error)}.")

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        # Werkzeug's own pages repeat what was asked for.
        return Response(f"{error.code} {error.name}\n", error.code, mimetype="text/plain")

    return app


def _answer(template: str, status: int = 200, **shown: object) -> Response:
    """Return a page, or that it is the one that the browser has."""
    response = make_response(render_template(template, **shown), status)
    response.cache_control.private = response.cache_control.no_cache = True
    if status == 200:
        response.add_etag()
        response.make_conditional(request)
    return response


def _name() -> str:
    return request.args.get("name") or abort(404)


def _number(which: str) -> int:
    number = request.args.get(which, type=int)
    # MongoDB knows no larger ones.
    if number is None or not 0 <= number < 2**63:
        abort(404)
    return number


def _page(path: str, **arguments: object) -> str:
    """Return the relative address of a page."""
    return f"{path}?{urlencode(arguments)}"


def _iso(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="seconds")


def _clock(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
