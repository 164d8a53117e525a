import os
import subprocess
import sys
import time

from unrolled.runs import liveness
from unrolled.runs.folder import judge
from unrolled.runs.liveness import STALE, alive, owner


def test_this_process_is_alive_and_an_ended_one_is_not():
    assert alive(owner())
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    record = {**owner(), "pid": child.pid, "pid_started": None}
    assert alive(record)
    child.communicate(b"\n")
    assert not alive(record)


def test_a_zombie_is_not_alive():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    record = {**owner(), "pid": child.pid, "pid_started": liveness._started(child.pid)}
    assert alive(record)
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
    os.kill(child.pid, 0)  # the pid still exists
    assert not alive(record)
    child.wait()


def test_a_pid_used_again_is_not_the_process():
    assert not alive({**owner(), "pid_started": owner()["pid_started"] - 1})


def test_another_boot_or_machine_goes_by_its_heartbeat():
    for other in ({"boot": "another"}, {"host": "elsewhere"}):
        record = {**owner(), **other, "pid": os.getpid(), "time": 1000.0}
        assert alive(record, now=1000.0 + STALE - 1)
        assert not alive(record, now=1000.0 + STALE + 1)
        assert not alive({**record, "time": None})


def test_a_status_is_judged():
    gone = {**owner(), "pid_started": -5, "time": time.time()}
    assert judge({"state": "running", **owner()})["state"] == "running"
    assert judge({"state": "running", **gone})["state"] == "lost"
    assert judge({"state": "queued", **gone})["state"] == "lost"
    for state in ("finished", "failed", "interrupted"):
        assert judge({"state": state, **gone})["state"] == state
    assert judge({})["state"] == judge({"state": "??"})["state"] == "lost"
