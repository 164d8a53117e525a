import os
import time

import numpy as np
import pytest

from unrolled.runs import Run, plain


def numbers(answer):
    """The rows and the values of a part, as the page unpacks them."""
    assert answer.status_code == 200, answer.text
    shape = [int(n) for n in answer.headers["x-shape"].split(",")]
    kind = np.dtype("<f8" if answer.headers["x-dtype"] == "float64" else "<f4")
    cut = 8 * shape[0] if answer.headers["x-decimated"] == "1" else 0
    rows = (
        np.frombuffer(answer.content[:cut], "<f8")
        if cut
        else int(answer.headers["x-start"]) + np.arange(shape[0])
    )
    return rows, np.frombuffer(answer.content[cut:], kind).reshape(shape)


def test_the_list_of_runs(client, run):
    (row,) = client.get("/api/runs").json()["runs"]
    assert (row["study"], row["id"], row["system"], row["state"], row["preset"]) == (
        "toy-walk",
        run.id,
        "toy",
        "finished",
        "tiny",
    )
    assert row["claims"] == {"reproduced": 1}


def test_everything_small_of_a_run(client, run, where):
    told = client.get(where).json()
    assert told["state"] == "finished"
    assert told["claims"][0]["statement"] == "it <b>walks</b>"
    assert told["command"]
    assert [panel["source"] for panel in told["panels"]] == [
        "readings/settling",
        "trajectory/x",
        "trajectory/deep/er",
        "metrics",
    ]
    assert told["figures"] == ["one.svg"]
    assert told["problems"] == []


def test_records_are_exhibits_and_their_rows_are_read_where_they_lie(client, where):
    told = client.get(f"{where}/trajectory").json()
    assert told["t"] == [2.0 * i for i in range(40)]
    assert [record["title"] for record in told["records"]] == ["x", "deep/er"]
    assert told["records"][0]["arrays"]["values"]["shape"] == [40, 2, 3]
    assert told["unit"] == "cycle"
    rows, values = numbers(client.get(f"{where}/trajectory/x?start=3&stop=5"))
    assert rows.tolist() == [3, 4]
    assert values.ravel().tolist() == list(range(18, 30))
    rows, values = numbers(client.get(f"{where}/trajectory/deep/er?points=10"))
    assert len(rows) == len(values) == 10
    assert rows.tolist()[:4] == [0, 0, 8, 8]
    rows, values = numbers(client.get(f"{where}/trajectory/x?points=4&reduce=mean&columns=1:3"))
    assert values.shape == (4, 2)


def test_readings_and_metrics_are_exhibits(client, where):
    reading = client.get(f"{where}/readings/settling").json()
    assert reading["kind"] == "reading"
    assert reading["t"] == [0, 1, 2]
    assert reading["data"]["values"] == {"residual": {"array": "residual"}, "rate": 0.5, "settled": False}
    _, values = numbers(client.get(f"{where}/readings/settling/arrays/residual"))
    assert values.tolist()[:2] == [1.0, 0.5]
    assert np.isnan(values[2])
    metrics = client.get(f"{where}/metrics").json()
    assert [(one["name"], one["labels"]) for one in metrics["data"]["series"]] == [
        ("loss", {"optimizer": "muon"}),
        ("loss", {"optimizer": "adam"}),
    ]
    _, x = numbers(client.get(f"{where}/metrics/arrays/x1"))
    assert x.tolist() == list(range(40))


def test_what_a_run_left_behind_is_shown_in_a_sandbox(client, run, where):
    (run.path / "report.html").write_text("<script>alert(1)</script>")
    for part, kind in (("figures/one.svg", "image/svg+xml"), ("report", "text/html; charset=utf-8")):
        answer = client.get(f"{where}/{part}")
        assert answer.headers["content-type"] == kind
        assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")


@pytest.mark.parametrize(
    "part",
    [
        "",
        "/metrics",
        "/trajectory",
        "/trajectory/x",
        "/readings/r",
        "/exhibits/e",
        "/exhibits/e/arrays/a",
        "/figures/f.svg",
        "/report",
    ],
)
@pytest.mark.parametrize(
    "folder",
    ["toy-walk/nothing", "..%2f/x", "%2e%2e/%2e%2e", "toy-walk/%2e%2e%2f%2e%2e%2fsecret"],
)
def test_what_is_not_a_run_is_refused_or_not_there(client, run, folder, part):
    (run.path.parent.parent.parent / "config.json").write_text('{"secret": 1}')
    answer = client.get(f"/api/runs/{folder}{part}")
    assert answer.status_code in (403, 404)
    assert "secret" not in answer.text.replace(folder, "")


@pytest.mark.parametrize(
    "part",
    [
        "figures/..%2fconfig.json",
        "figures/%2e%2e",
        "figures/config.json",
        "figures/.hidden.svg",
        "readings/..%2fconfig",
        "exhibits/..%2fstatus",
        "trajectory/..%2f..%2fx",
        "figures/one.svg%00.png",
    ],
)
def test_no_part_leads_out_of_its_folder(client, where, part):
    answer = client.get(f"{where}/{part}")
    assert answer.status_code in (403, 404)
    assert "preset" not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static/..%2f__init__.py",
        "/static//etc/passwd",
        "/static/panels/",
    ],
)
def test_the_page_s_own_files_are_all_there_is(client, path):
    assert client.get(path).status_code in (403, 404)


@pytest.mark.skipif(os.name != "posix", reason="symbolic links need rights on this system")
def test_links_are_not_followed_anywhere(client, make_run, root, tmp_path):
    outside = make_run(tmp_path / "outside")
    run = make_run(root, seed=1)
    (root / "linked").symlink_to(outside.path.parent)
    (root / "toy-walk" / "linked").symlink_to(outside.path)
    for name in ("trajectory.safetensors", "metrics.parquet", "status.json", "claims.json", "config.json"):
        (run.path / name).unlink(missing_ok=True)
        (run.path / name).symlink_to(outside.path / name)
    assert client.get("/api/runs").json()["runs"] == []
    for folder in (f"linked/{outside.id}", "toy-walk/linked", f"toy-walk/{run.id}"):
        assert client.get(f"/api/runs/{folder}").status_code == 403
        assert client.get(f"/api/runs/{folder}/trajectory").status_code == 403
        assert client.get(f"/api/runs/{folder}/trajectory/x").status_code == 403


@pytest.mark.parametrize(
    "query",
    [
        "start=-1",
        "start=x",
        "points=0",
        "columns=1",
        "columns=9:2",
        "reduce=sum",
        "poinst=3",
        "start=5&stop=2",
        "points=1e400",
        "start=99999999999999999999",
    ],
)
def test_a_query_that_makes_no_sense_gets_a_sentence(client, where, query):
    answer = client.get(f"{where}/trajectory/x?{query}")
    assert answer.status_code == 422
    assert len(answer.json()["error"]) > 10


def test_a_misspelt_parameter_is_named(client, where):
    assert "did you mean 'points'?" in client.get(f"{where}/trajectory/x?poinst=3").json()["error"]


def test_an_answer_too_large_says_what_to_ask(client, where, monkeypatch):
    from unrolled.view import arrays

    monkeypatch.setattr(arrays, "LIMIT", 100)
    answer = client.get(f"{where}/trajectory/x")
    assert answer.status_code == 413
    assert "fewer points" in answer.json()["error"]


def test_damaged_files_are_told_and_the_rest_is_shown(client, run, where):
    path = run.path / "trajectory.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    (run.path / "readings" / "settling.json").write_text("{")
    (run.path / "claims.json").write_text("[")
    (run.path / "environment.json").unlink()
    told = client.get(where).json()
    assert told["state"] == "finished"
    assert (
        len(
            [
                problem
                for problem in told["problems"]
                if "trajectory" in problem or "claims" in problem or "environment" in problem
            ]
        )
        == 3
    )
    assert client.get(f"{where}/trajectory").status_code == 422
    assert client.get(f"{where}/readings/settling").status_code == 422
    (run.path / "status.json").write_text("")
    assert client.get(where).json()["state"] == "lost"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_a_sentence(client, run, where):
    (run.path / "readings").chmod(0)
    try:
        assert any("readings" in problem for problem in client.get(where).json()["problems"])
        run.path.chmod(0)
        assert client.get(where).status_code == 403
    finally:
        run.path.chmod(0o755)
        (run.path / "readings").chmod(0o755)


def test_a_reading_that_may_not_be_read_is_a_sentence(client, run, where, monkeypatch):
    """The same without a file system that knows permissions: whoever runs this may be root."""
    from unrolled.view import paths

    real = os.open

    def refusing(path, *rest, **more):
        if path == "readings":
            raise PermissionError(13, "Permission denied")
        return real(path, *rest, **more)

    monkeypatch.setattr(paths.os, "open", refusing)
    assert any("readings could not be read" in problem for problem in client.get(where).json()["problems"])
    assert client.get(f"{where}/readings/settling").status_code == 403


def test_long_recordings_send_even_times_as_a_rule_and_others_in_binary(client, root):
    import torch

    from unrolled.core import Trajectory

    even = 3 + 0.1 * torch.arange(6000, dtype=torch.float64)
    for t in (even, torch.cat((even[:-1], even[-1:] + 1)), torch.arange(6000) ** 2):
        with Run.create("toy", {"seed": 0}, root=root) as run:
            run.save_trajectory(Trajectory.from_records(t, {"x": torch.zeros(6000)}))
        told = client.get(f"/api/runs/toy/{run.id}/trajectory").json()
        if t is even:
            assert told["t"] == {"count": 6000, "start": 3.0, "step": pytest.approx(0.1)}
        else:
            assert told["t"] == {"count": 6000, "array": "t"}
        _, sent = numbers(client.get(f"/api/runs/toy/{run.id}/trajectory/t"))
        assert sent.tolist() == t.double().tolist()


def test_exhibits_are_held_against_their_kind(client, run, where):
    import torch

    folder = run.path / "exhibits"
    folder.mkdir()
    with Run.create("toy", {"seed": 0}, root=run.path.parent.parent) as fresh:
        fresh.save_exhibit(
            "b", "heatmap", title="T", unit="step", t=[0.0, 1.0], data={}, arrays={"values": torch.ones(2, 3)}
        )
    place = f"/api/runs/toy/{fresh.id}/exhibits"
    told = client.get(f"{place}/b").json()
    assert (told["kind"], told["name"], told["t"]) == ("heatmap", "b", [0, 1])
    _, values = numbers(client.get(f"{place}/b/arrays/values?start=1&stop=2"))
    assert values.tolist() == [[1, 1, 1]]
    assert client.get(f"{place}/b/arrays/other").status_code == 404
    for text in (
        "{",
        "[]",
        "{}",
        '{"kind": "bars", "data": {}}',
        '{"kind": "bars", "data": 3}',
        '{"kind": "heatmap", "t": "x"}',
        '{"kind": "lines", "arrays": {"x": 1}}',
    ):
        (folder / "bad.json").write_text(text)
        answer = client.get(f"{where}/exhibits/bad")
        assert answer.status_code == 422, text
        assert len(answer.json()["error"]) > 10
    (folder / "bad.json").write_text('{"kind": "of my own", "data": {"a": 1}}')
    assert client.get(f"{where}/exhibits/bad").json()["data"] == {"a": 1}
    assert {"source": "exhibits/bad", "kind": ""} in client.get(where).json()["panels"]


def test_hostile_text_stays_text(client, root):
    hostile = "</script><img src=x onerror=alert(1)>\u202e\0\ud7ff"
    with Run.create("toy", {"seed": 0, "name": hostile}, root=root) as run:
        run.log(step=0, loss=1.0, label=hostile)
    for part in ("", "/metrics"):
        answer = client.get(f"/api/runs/toy/{run.id}{part}")
        assert answer.headers["content-type"] == "application/json"
        assert "onerror" in answer.text
    assert plain.loads(client.get("/api/runs").text)["runs"][0]["id"] == run.id


def test_a_thousand_runs_open_within_their_time(client, root):
    """Not a speed test: a list that read every folder for each row would take minutes here."""
    import json

    for number in range(1000):
        folder = root / f"study-{number % 7}" / f"20260101-000000-{number:08x}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"preset": "tiny", "seed": number}))
        (folder / "status.json").write_text(json.dumps({"state": "finished", "created": float(number)}))
    began = time.monotonic()
    rows = client.get("/api/runs").json()["runs"]
    assert len(rows) == 1000
    assert [row["seed"] for row in rows[:3]] == [999, 998, 997]
    assert time.monotonic() - began < 60


def test_a_folder_that_is_not_there_yet_has_no_runs(tmp_path):
    from starlette.testclient import TestClient

    from unrolled.view.server import app

    with TestClient(app(tmp_path / "later"), base_url="http://localhost") as client:
        assert client.get("/api/runs").json()["runs"] == []
        Run.create("toy", {"seed": 0}, root=tmp_path / "later").end()
        assert len(client.get("/api/runs").json()["runs"]) == 1
