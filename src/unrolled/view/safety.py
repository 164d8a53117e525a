"""Who may ask, and what an answer allows: hosts and origins, the token, headers, and how often one may talk.

A page on another site can send requests to a local server, and with a name that it points here (DNS rebinding) it can
read the answers; so the Host header must be one of ours and the Origin, where one is sent, this server's.
"""

import hmac
import ipaddress
import time
from collections.abc import Callable, Iterable
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""For what a run left behind, a figure or a report: it may draw, and nothing else."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}

LOCAL = ("localhost", "127.0.0.1", "::1")


def is_local(host: str) -> bool:
    """Whether an address to bind to is reached from this machine alone.

    Example:
        >>> is_local("127.0.0.1"), is_local("localhost"), is_local("::1"), is_local("0.0.0.0")
        (True, True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware: refuses what does not come from this server's own page, and adds the headers.

    Args:
        app: the ASGI app behind.
        hosts: names that the Host header may have; None for any, which only a token makes safe.
        token: required of every request when given; it comes once in the address, then as a cookie.
        port: where the server listens; cookies of two servers on one machine must not mix.

    Raises:
        ValueError: any host, and no token.
    """

    def __init__(self, app: Any, *, hosts: Iterable[str] | None, token: str | None, port: int) -> None:
        if hosts is None and not token:
            raise ValueError("a server that any name reaches needs a token")
        self._app = app
        self._hosts = None if hosts is None else {host.lower() for host in hosts}
        self._token = token
        self._cookie = f"unrolled-{port}"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no websockets here
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        hosts = [value for key, value in scope["headers"] if key.lower() == b"host"]
        refused = self._refused(scope["method"], headers, len(hosts))
        if refused:
            await _answer(send, 403, refused)
            return
        if self._token:
            asked = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
            given = dict(asked).get("token")
            if given is not None and scope["method"] == "GET" and self._fits(given):
                rest = urlencode([(key, value) for key, value in asked if key != "token"])
                # Never `//host`: the path is put behind one slash.
                where = "/" + scope["path"].lstrip("/\\") + (f"?{rest}" if rest else "")
                cookie = f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict"
                await _answer(send, 303, "", {"location": _encoded(where), "set-cookie": cookie})
                return
            if not self._known(headers):
                await _answer(
                    send, 401, "this view needs its token: open the address that `unrolled view` printed"
                )
                return

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                there = {key.lower() for key, _ in message["headers"]}
                message["headers"] = [*message["headers"]] + [
                    (key.encode(), value.encode())
                    for key, value in HEADERS.items()
                    if key.encode() not in there
                ]
            await send(message)

        await self._app(scope, receive, guarded)

    def _refused(self, method: str, headers: dict[str, str], hosts: int) -> str:
        host = headers.get("host", "")
        name = hostname(host)
        if hosts != 1 or name is None or (self._hosts is not None and name not in self._hosts):
            return f"no view at the host {host[:80]!r}"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return f"requests from {origin[:80]!r} are not answered"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none") and (
            method != "GET" or headers.get("sec-fetch-mode") != "navigate"
        ):
            return "requests from other sites are not answered"
        if method not in ("GET", "HEAD") and origin is None:
            return "a request that does something says where it comes from (Origin)"
        return ""

    def _fits(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self._token or "").encode())

    def _known(self, headers: dict[str, str]) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._fits(given.strip()):
            return True
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        return self._cookie in cookies and self._fits(cookies[self._cookie].value)


def hostname(host: str) -> str | None:
    """The name in a Host header, without its port; None if it is none.

    Example:
        >>> hostname("LOCALHOST:8000"), hostname("[::1]:80"), hostname("evil.example/x"), hostname("")
        ('localhost', '::1', None, None)
    """
    try:
        parts = urlsplit(f"//{host}")
        named = parts.hostname
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        return None
    if (
        not named
        or parts.path
        or parts.query
        or parts.fragment
        or "@" in host
        or any(c.isspace() for c in host)
    ):
        return None
    return named


class Limit:
    """A bucket of `burst` tokens that fills by `rate` a second: what talking may cost this machine.

    Example:
        >>> now = [0.0]
        >>> limit = Limit(burst=2, rate=0.5, clock=lambda: now[0])
        >>> limit.wait(), limit.wait(), limit.wait()
        (0.0, 0.0, 2.0)
        >>> now[0] = 2.0
        >>> limit.wait()
        0.0
    """

    def __init__(self, *, burst: int, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._rate, self._clock = burst, rate, clock
        self._left, self._at = float(burst), clock()

    def wait(self) -> float:
        """Take a token: 0, or the seconds until there is one."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) / self._rate


def _encoded(path: str) -> str:
    from urllib.parse import quote

    return quote(path, safe="/?&=%:@+,.-_~")


async def _answer(send: Any, status: int, text: str, more: dict[str, str] | None = None) -> None:
    headers = {
        **HEADERS,
        "content-type": "text/plain; charset=utf-8",
        "cache-control": "no-store",
        **(more or {}),
    }
    head = [(key.encode(), value.encode("latin-1", "replace")) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": text.encode()})
