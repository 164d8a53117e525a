"""The app: run folders over HTTP, read-only but for talking. Every answer is made of what lies in a folder now."""

import asyncio
import contextlib
import json
import mimetypes
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from unrolled.runs import plain
from unrolled.runs.config import nearest
from unrolled.view import arrays, bundle, folders, paths, safety
from unrolled.view.arrays import Part, TooLarge
from unrolled.view.events import Watcher
from unrolled.view.folders import Missing
from unrolled.view.talk import LONGEST, Busy, Talker, Unavailable

_FRESH = {"cache-control": "no-store"}
_BODY = 16 * 2**10


def app(
    root: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
) -> safety.Guard:
    """The app as ASGI: the routes behind the guard.

    Args:
        root: folder that holds all runs.
        host: the address it is bound to; on one that other machines reach, a token is required.
        port: the port it is bound to.
        token: what every request must bring; None asks for none, which only a local address allows.

    Raises:
        ValueError: an address that other machines reach, and no token.
    """
    return _guarded(_View(root.resolve()), host, port, token)


def _guarded(view: "_View", host: str, port: int, token: str | None) -> safety.Guard:
    local = safety.is_local(host)
    if not local and not token:
        raise ValueError(f"{host} is reached from other machines: a token is needed")
    return safety.Guard(
        view.starlette(), hosts={*safety.LOCAL, host.strip("[]")} if local else None, token=token, port=port
    )


def serve(
    root: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8420,
    token: str | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until interrupted.

    Args:
        root: folder that holds all runs.
        host: address to bind to; on one that other machines reach, a random token is made when none is given.
        port: port to bind to; the next free one of the twenty after it when it is taken, any free one for 0.
        token: see `app`.
        ready: called with the address when the port is open.

    Raises:
        OSError: no port is free, or the address is none of this machine's.
    """
    import uvicorn

    if token is None and not safety.is_local(host):
        token = secrets.token_urlsafe(24)
    with contextlib.closing(_bind(host, port)) as listener:
        bound = listener.getsockname()[1]
        view = _View(root.resolve())
        made = _guarded(view, host, bound, token)
        config = uvicorn.Config(
            made, log_level="warning", access_log=False, server_header=False, date_header=False,
            ws="none", timeout_graceful_shutdown=1, timeout_keep_alive=30, limit_concurrency=256,
        )  # fmt: skip
        if ready is not None:
            ready(address(host, bound, token))
        server = uvicorn.Server(config)
        leave = server.handle_exit

        def handle_exit(sig: int, frame: Any) -> None:
            view.watcher.end()
            leave(sig, frame)

        server.handle_exit = handle_exit
        server.run(sockets=[listener])


def address(host: str, port: int, token: str | None) -> str:
    """What to open in the browser.

    Example:
        >>> address("0.0.0.0", 80, "t"), address("::1", 80, None)
        ('http://127.0.0.1:80/?token=t', 'http://[::1]:80/')
    """
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    shown = f"[{shown}]" if ":" in shown else shown
    return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in [port] if port == 0 else range(port, min(port + 21, 65536)):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
            listener.listen(128)
            return listener
        except OSError as error:
            listener.close()
            if not isinstance(error, PermissionError) and "in use" not in str(error):
                raise OSError(
                    error.errno, f"cannot listen on {host}:{candidate}: {error.strerror}"
                ) from error
    raise OSError(f"ports {port} to {port + 20} of {host} are taken or not allowed: give another --port")


class _View:
    """The endpoints."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.watcher = Watcher(root)
        self.talker = Talker(root)

    def starlette(self) -> Starlette:
        mimetypes.add_type(
            "text/javascript", ".js"
        )  # some systems' tables say otherwise, and browsers then refuse
        one = "/api/runs/{study}/{id}"
        gets: dict[str, Callable[[Request], Any]] = {
            "/api/runs": self.runs,
            one: self.run,
            f"{one}/exhibits/{{name}}": self.exhibit,
            f"{one}/exhibits/{{name}}/arrays/{{array:path}}": self.exhibit_array,
            f"{one}/readings/{{name}}": self.reading,
            f"{one}/readings/{{name}}/arrays/{{array:path}}": self.reading_array,
            f"{one}/metrics": self.metrics,
            f"{one}/metrics/arrays/{{array}}": self.metrics_array,
            f"{one}/trajectory": self.trajectory,
            f"{one}/trajectory/{{record:path}}": self.record,
            f"{one}/figures/{{file}}": self.figure,
            f"{one}/report": self.report,
            "/api/panels": self.kinds,
        }
        routes = [Route(path, _answering(endpoint), methods=["GET"]) for path, endpoint in gets.items()]
        routes += [
            Route("/api/events", _answering(self.events), methods=["GET"]),
            Route("/api/talk", _answering(self.talk), methods=["POST"]),
            Route("/", _answering(self.index), methods=["GET"]),
        ]
        return Starlette(
            routes=[*routes, Mount("/static", _Static(directory=bundle.STATIC))], lifespan=self.lifespan
        )

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        await self.watcher.close()

    # ---------------------------------------------------------------- pages

    def index(self, request: Request) -> Response:
        return FileResponse(bundle.STATIC / "index.html", headers={"cache-control": "no-cache"})

    def kinds(self, request: Request) -> Response:
        return _json(bundle.kinds())

    # ---------------------------------------------------------------- runs

    def runs(self, request: Request) -> Response:
        return _json({"root": str(self.root), "runs": folders.runs(self.root)})

    def run(self, request: Request) -> Response:
        return _json(folders.run(self.root, *_where(request)))

    def exhibit(self, request: Request) -> Response:
        return _json(folders.exhibit(self.root, *_where(request), request.path_params["name"]))

    def exhibit_array(self, request: Request) -> Response:
        file = folders.exhibit_file(self.root, *_where(request), request.path_params["name"])
        return _part(file.part(request.path_params["array"], **_window(request)))

    def reading(self, request: Request) -> Response:
        return _json(folders.reading(self.root, *_where(request), request.path_params["name"]))

    def reading_array(self, request: Request) -> Response:
        wanted = request.path_params
        values = folders.reading_array(self.root, *_where(request), wanted["name"], wanted["array"])
        return _part(arrays.thinned(values, **_window(request)))

    def metrics(self, request: Request) -> Response:
        return _json(folders.metrics(self.root, *_where(request)))

    def metrics_array(self, request: Request) -> Response:
        values = folders.metrics_array(self.root, *_where(request), request.path_params["array"])
        return _part(arrays.thinned(values, **_window(request)))

    def trajectory(self, request: Request) -> Response:
        return _json(folders.trajectory(self.root, *_where(request)))

    def record(self, request: Request) -> Response:
        file = folders.trajectory_file(self.root, *_where(request))
        name = request.path_params["record"]
        return _part(file.part("t" if name == "t" else f"records/{name}", **_window(request)))

    def figure(self, request: Request) -> Response:
        file = request.path_params["file"]
        kind = folders.PICTURES.get(Path(file).suffix.lower())
        if kind is None:
            raise Missing(f"{file!r} is no picture")
        body = paths.read(self.root, *_where(request), "figures", file)
        return Response(body, media_type=kind, headers={**_FRESH, "content-security-policy": safety.SANDBOX})

    def report(self, request: Request) -> Response:
        body = paths.read(self.root, *_where(request), "report.html")
        return Response(
            body, media_type="text/html", headers={**_FRESH, "content-security-policy": safety.SANDBOX}
        )

    # ---------------------------------------------------------------- live

    async def events(self, request: Request) -> Response:
        if self.watcher.full:
            return _error(503, "too many open pages: close one")
        watched: list[tuple[str, str]] = []
        for told in request.query_params.getlist("run")[:4]:
            study, _, id = told.partition("/")
            watched.append((paths.name(study), paths.name(id)))
        return StreamingResponse(
            self.watcher.listen(tuple(watched)), media_type="text/event-stream", headers=_FRESH
        )

    async def talk(self, request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _error(415, "a question is sent as application/json")
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _BODY:
                return _error(413, f"a question has at most {LONGEST} characters")
        try:
            told = json.loads(body)
            if not all(isinstance(told[key], str) for key in ("study", "id", "text")):
                raise TypeError("each is a string")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return _error(422, f'a question is {{"study": "...", "id": "...", "text": "..."}}: {error}')
        try:
            answer = await self.talker.ask(told, request.is_disconnected)
        except Busy as error:
            return JSONResponse(
                {"error": str(error)}, 429, headers={"retry-after": str(max(1, round(error.after)))}
            )
        except Unavailable as error:
            return _error(501, str(error))
        except TimeoutError:
            return _error(504, "no answer in time")
        except asyncio.CancelledError:
            if await request.is_disconnected():  # nobody reads this
                return Response(status_code=499)
            raise
        return _json(answer)


class _Static(StaticFiles):
    """The app's own files: asked for again each time, because a new version has the same names."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response


def _answering(endpoint: Callable[[Request], Any]) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint whose errors are answers: a status and a sentence."""

    async def answer(request: Request) -> Response:
        try:
            if asyncio.iscoroutinefunction(endpoint):
                return await endpoint(request)
            return await run_in_threadpool(partial(endpoint, request))
        except paths.Refused as error:
            return _error(403, str(error))
        except PermissionError as error:
            return _error(403, f"the system does not allow reading this: {error.strerror or error}")
        except FileNotFoundError:
            return _error(404, "there is no such file")
        except TooLarge as error:
            return _error(413, str(error))
        except KeyError as error:
            return _error(404, str(error.args[0]) if error.args else "there is no such thing")
        except (ValueError, OSError, ImportError) as error:
            return _error(422, str(error))

    return answer


def _error(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status, headers=_FRESH)


def _json(value: Any) -> Response:
    return Response(plain.dumps(value), media_type="application/json", headers=_FRESH)


def _where(request: Request) -> tuple[str, str]:
    return request.path_params["study"], request.path_params["id"]


def _window(request: Request) -> dict[str, Any]:
    """start, stop, points, reduce and columns of a query.

    Raises:
        ValueError: one of them is no number, or the parameter is unknown.
    """
    window: dict[str, Any] = {}
    known = ("start", "stop", "points", "reduce", "columns")
    for key, value in request.query_params.items():
        if key not in known:
            raise ValueError(f"no parameter {key!r}{nearest(key, known)} There are {', '.join(known)}")
        try:
            if key == "columns":
                a, b = value.split(":")
                window[key] = int(a), int(b)
            else:
                window[key] = value if key == "reduce" else int(value)
        except ValueError as error:
            raise ValueError(
                f"{key}={value[:40]!r} is no {'range a:b' if key == 'columns' else 'whole number'}"
            ) from error
    return window


def _part(part: Part) -> Response:
    """Numbers as they are, little-endian: the rows they stand at (float64) where rows were put together, then the values."""
    index = np.ascontiguousarray(part.index, "<f8").tobytes() if part.decimated else b""
    headers = {
        **_FRESH,
        "x-shape": ",".join(map(str, part.values.shape)),
        "x-dtype": "float64" if part.values.itemsize == 8 else "float32",
        "x-decimated": "1" if part.decimated else "0",
        "x-start": str(int(part.index[0])) if len(part.index) else "0",
    }
    return Response(index + part.values.tobytes(), media_type="application/octet-stream", headers=headers)
