"""What `unrolled view` promises to the rest of the package, and as a process of its own."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import unrolled

SOURCE = Path(unrolled.__file__).parent


def test_nothing_but_its_verb_imports_the_view():
    """So that the package can be deleted; the tour may end with its address."""
    allowed = {"cli/view.py", "tour.py"}
    for path in SOURCE.rglob("*.py"):
        name = path.relative_to(SOURCE).as_posix()
        if not name.startswith("view/") and name not in allowed:
            assert not re.search(r"unrolled\.view|from unrolled import .*\bview\b", path.read_text()), name


def test_serving_folders_takes_no_torch():
    code = "import sys, unrolled.view.server, unrolled.view.bundle; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.fixture
def served(root):
    """Starts the verb and gives the address it printed."""
    started = []

    def start(*words):
        child = subprocess.Popen(
            [sys.executable, "-u", "-m", "unrolled", "view", "--runs", str(root), "--port", "0", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        started.append(child)
        line = child.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, line + child.stderr.read()
        return child, found[0]

    yield start
    for child in started:
        child.kill()
        child.communicate()


def fetch(address, path="/api/runs", **headers):
    import urllib.error
    import urllib.request

    host = re.match(r"http://[^/]+", address)[0]
    try:
        with urllib.request.urlopen(
            urllib.request.Request(host + path, headers=headers), timeout=20
        ) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_verb_serves_until_interrupted_even_with_a_page_open(served, run):
    child, address = served(run.id)
    assert address.endswith(f"#run={run.study}/{run.id}")
    status, text = fetch(address)
    assert status == 200
    assert run.id in text
    host, port = re.match(r"http://([^:/]+):(\d+)", address).groups()
    with socket.create_connection((host, int(port))) as page:
        page.sendall(f"GET /api/events HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        assert b"200 OK" in page.recv(100)
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 0
    assert "Traceback" not in child.stderr.read()


def test_another_address_prints_a_token_and_asks_for_it(served, run):
    _, address = served("--host", "0.0.0.0")
    token = re.search(r"token=([\w-]{32,})", address)[1]
    assert fetch(address)[0] == 401
    assert fetch(address, authorization=f"Bearer {token}")[0] == 200


def test_the_port_on_this_machine_only(served, run):
    _, address = served()
    port = int(re.search(r":(\d+)", address)[1])
    here = [info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    for other in {address for address in here if not address.startswith("127.")}:
        with pytest.raises(OSError):
            socket.create_connection((other, port), timeout=5).close()


def test_an_answer_is_dropped_when_the_tab_closes(root, monkeypatch):
    """With a real server and a real connection that goes away."""
    import uvicorn

    from unrolled.view import server, talk

    asked, stopped = threading.Event(), threading.Event()

    def slow(self, told, turn, stop):
        asked.set()
        if stop.wait(20):
            stopped.set()
        return {}

    monkeypatch.setattr(talk.Talker, "_answer", slow)
    root.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        made = uvicorn.Server(uvicorn.Config(server.app(root, port=port), log_level="error", ws="none"))
        thread = threading.Thread(target=lambda: made.run(sockets=[listener]))
        thread.start()
        try:
            body = b'{"study": "a", "id": "b", "text": "hello"}'
            host = f"127.0.0.1:{port}"
            head = f"POST /api/talk HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nContent-Type: application/json\r\n"
            with socket.create_connection(("127.0.0.1", port)) as tab:
                tab.sendall(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
                assert asked.wait(20)
                time.sleep(0.3)
                assert not stopped.is_set()
            assert stopped.wait(20)
        finally:
            made.should_exit = True
            thread.join(20)


def test_the_runs_folder_itself_may_be_a_link(root, run):
    """A runs folder given through a link is served; its content is where the link leads."""
    link = root.parent / "link"
    os.symlink(root, link)
    from starlette.testclient import TestClient

    from unrolled.view.server import app

    with TestClient(app(link), base_url="http://localhost") as client:
        assert client.get("/api/runs").json()["runs"][0]["id"] == run.id
