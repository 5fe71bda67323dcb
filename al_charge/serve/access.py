"""Who may see the page: whoever has the token, from a browser that asked this machine for it.

The token comes once in the URL, and then as a cookie that no script and no other site can use.
Browsers are told to load nothing from elsewhere, and requests under a foreign name are refused,
so that no other page can reach this one through a name that it controls (DNS rebinding).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from urllib.parse import urlencode

from flask import Flask, Response, make_response, render_template, request
from werkzeug.exceptions import SecurityError

LOOPBACK = ("127.0.0.1", "localhost")
"""Names by which this machine's own browsers, and the ends of ssh tunnels, know it."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every answer: nothing from elsewhere is loaded, nothing is framed, no address is passed on."""


def guard(app: Flask, token: str, hosts: Sequence[str] = LOOPBACK) -> None:
    """Refuse every request without the token, or under another name.

    Parameters
    ----------
    app
        The application.
    token
        What a visitor must know.
    hosts
        Names of this machine, without a port: a tunnel ends at any.
    """
    app.config["TRUSTED_HOSTS"] = list(hosts)
    # Cookies do not belong to a port: two pages of one machine have two names.
    cookie = f"al_charge_{hashlib.sha256(token.encode()).hexdigest()[:12]}"

    def is_token(given: str) -> bool:
        return hmac.compare_digest(given.encode(), token.encode())

    @app.before_request
    def check() -> Response | None:
        if isinstance(request.routing_exception, SecurityError):
            return _refused()
        given = request.args.get("token")
        if given is None:
            return None if is_token(request.cookies.get(cookie, "")) else _refused()
        if not is_token(given):
            return _refused()
        # Not a redirect: after a link of another site its cookie would not be sent.
        rest = urlencode([(k, v) for k, v in request.args.items(multi=True) if k != "token"])
        page = request.path.rpartition("/")[2] or "."
        entered = make_response(render_template("enter.html", page=f"{page}?{rest}".rstrip("?")))
        entered.set_cookie(cookie, token, httponly=True, samesite="Strict")
        entered.cache_control.no_store = True
        return entered

    @app.after_request
    def harden(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response


def _refused() -> Response:
    """Return the answer to whoever may not see the page; it says nothing more."""
    return Response("403 Forbidden\n", 403, mimetype="text/plain")
