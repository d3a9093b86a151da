# SPDX-License-Identifier: MulanPSL-2.0
"""The listening socket: systemd's own (sd_listen_fds), or one made here for root alone."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent.host.listener import take_listener

TAKE = """
import os, subprocess, sys
from pathlib import Path
if sys.argv[2] == "ours":
    os.environ["LISTEN_PID"] = str(os.getpid())
from agent.host.listener import take_listener
listener = take_listener(Path(sys.argv[1]))
assert not listener.getblocking()
assert not listener.get_inheritable()
left = [name for name in os.environ if name.startswith("LISTEN_")]
seen = subprocess.run(("ls", "-l", "/proc/self/fd"), capture_output=True, text=True).stdout
print(listener.fileno(), listener.getsockname(), "socket:" in seen, left)
"""


def take_in_child(path: Path, whose: str, passed: socket.socket | None) -> str:
    """As systemd starts a service: the socket is descriptor 3."""

    def put_in_place() -> None:
        if passed is not None:
            os.dup2(passed.fileno(), 3)

    done = subprocess.run(
        (sys.executable, "-c", TAKE, str(path), whose),
        preexec_fn=put_in_place,
        pass_fds=() if passed is None else (3,),
        env={
            **os.environ,
            "PYTHONPATH": os.getcwd(),
            "LISTEN_FDS": "1",
            "LISTEN_PID": "1",
            "LISTEN_FDNAMES": "agent.sock",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_socket_that_systemd_passed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "passed.sock"))
        listener.listen()
        said = take_in_child(tmp_path / "agent.sock", "ours", listener)
    assert said == f"3 {tmp_path}/passed.sock False []"
    assert not (tmp_path / "agent.sock").exists()
    assert (tmp_path / "passed.sock").exists()  # a stop of the service leaves the socket's file


def test_a_socket_that_was_meant_for_another_process(tmp_path: Path) -> None:
    said = take_in_child(tmp_path / "agent.sock", "another", None)
    assert str(tmp_path / "agent.sock") in said


def test_one_of_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_PID", raising=False)
    path = tmp_path / "agent.sock"
    for _ in range(2):  # the second finds the file of the first, with nobody behind it
        listener = take_listener(path)
        with listener, socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            assert path.stat().st_mode & 0o777 == 0o600
            assert not listener.getblocking()
