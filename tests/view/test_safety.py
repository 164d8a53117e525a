import pytest
from starlette.testclient import TestClient

from unrolled.view import safety
from unrolled.view.server import address, app

TOKEN = "a-secret-word"


@pytest.fixture
def guarded(root):
    root.mkdir()
    with TestClient(
        app(root, host="0.0.0.0", port=9000, token=TOKEN), base_url="http://192.168.1.5:9000"
    ) as made:
        yield made


@pytest.mark.parametrize("path", ["/", "/api/runs", "/static/app.js", "/nothing", "/api/runs/x/y"])
def test_every_answer_carries_the_policy(client, path):
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers


def test_the_page_has_no_script_style_or_handler_within_it():
    import re

    from unrolled.view.bundle import STATIC

    page = (STATIC / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|javascript:|https?://", page)


def test_no_module_writes_markup_or_code():
    import re

    from unrolled.view.bundle import STATIC

    for path in STATIC.rglob("*.js"):
        if "vendor" not in path.parts:
            found = re.search(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc",
                path.read_text(),
            )
            assert not found, f"{path.name}: {found and found[0]}"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8420",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "",
        "127.0.0.1/x",
        "169.254.1.1",
    ],
)
def test_a_name_that_was_pointed_here_is_refused(client, run, host):
    answer = client.get("/api/runs", headers={"host": host})
    assert answer.status_code == 403
    assert run.id not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:8420", "localhost:1", "LOCALHOST", "[::1]:8420"])
def test_names_of_this_machine_are_answered(client, host):
    assert client.get("/api/runs", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1:9", "https://localhost.evil.example", "file://"],
)
def test_pages_of_other_origins_are_refused(client, origin):
    assert client.get("/api/runs", headers={"origin": origin}).status_code == 403
    assert client.post("/api/talk", json={}, headers={"origin": origin}).status_code == 403


def test_a_request_that_does_something_names_its_origin(client):
    assert client.post("/api/talk", json={}).status_code == 403
    assert client.post("/api/talk", json={}, headers={"origin": "http://127.0.0.1:8420"}).status_code == 422


def test_other_sites_may_link_here_but_not_load_from_here(client):
    other = {"sec-fetch-site": "cross-site"}
    assert client.get("/api/runs", headers={**other, "sec-fetch-mode": "no-cors"}).status_code == 403
    assert client.get("/", headers={**other, "sec-fetch-mode": "navigate"}).status_code == 200


def test_another_address_asks_for_the_token(guarded):
    for path in ("/", "/api/runs", "/static/app.js", "/api/events"):
        assert guarded.get(path).status_code == 401
        assert guarded.get(path, params={"token": "wrong"}).status_code == 401
    assert guarded.get("/api/runs", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert guarded.get("/api/runs", headers={"cookie": f"unrolled-9000={TOKEN}x"}).status_code == 401
    assert guarded.get("/api/runs", headers={"cookie": "\x01;;;==="}).status_code == 401


def test_the_token_comes_once_in_the_address_and_then_as_a_cookie(guarded):
    first = guarded.get("/", params={"token": TOKEN, "x": "1"}, follow_redirects=False)
    assert first.status_code == 303
    assert first.headers["location"] == "/?x=1"
    assert {"HttpOnly", "SameSite=Strict"} <= set(first.headers["set-cookie"].split("; "))
    assert guarded.get("/api/runs").status_code == 200


@pytest.mark.parametrize(
    "path", ["//evil.example/x", "/\\evil.example", "/%2f%2fevil.example", "/a%0d%0aset-cookie:%20x=1"]
)
def test_the_redirect_stays_here(guarded, path):
    answer = guarded.get(f"http://192.168.1.5:9000{path}", params={"token": TOKEN}, follow_redirects=False)
    where = answer.headers["location"]
    assert where.startswith("/")
    assert not where.startswith(("//", "/\\"))
    assert "\n" not in where
    assert answer.headers["set-cookie"].startswith("unrolled-9000=")


def test_no_other_address_without_a_token(root):
    with pytest.raises(ValueError, match="a token is needed"):
        app(root, host="0.0.0.0")
    with pytest.raises(ValueError, match="needs a token"):
        safety.Guard(None, hosts=None, token=None, port=1)
    assert app(root, host="127.0.0.2")


def test_serving_another_address_makes_a_random_token(root, monkeypatch):
    import uvicorn

    from unrolled.view import server

    told = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
    for host in ("127.0.0.1", "0.0.0.0", "0.0.0.0"):
        server.serve(root, host=host, port=0, ready=told.append)
    assert "token" not in told[0]
    tokens = [address.partition("token=")[2] for address in told[1:]]
    assert len(set(tokens)) == 2
    assert min(map(len, tokens)) >= 32


def test_a_port_that_is_taken_gives_the_next(root, monkeypatch):
    import socket

    import uvicorn

    from unrolled.view import server

    told = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server.serve(root, port=port, ready=told.append)
    assert int(told[0].rsplit(":", 1)[1].strip("/")) > port
    with pytest.raises(OSError, match=r"cannot listen on 203\.0\.113\.1"):
        server.serve(root, host="203.0.113.1", port=0)


def test_addresses():
    assert address("127.0.0.1", 1, None) == "http://127.0.0.1:1/"
    assert [
        safety.is_local(host) for host in ("127.9.9.9", "::1", "[::1]", "example.org", "10.0.0.1", "::")
    ] == [True] * 3 + [False] * 3
