# SPDX-License-Identifier: MulanPSL-2.0
"""`deepseekctl support-bundle` as a process: a host in a folder, programs that are full of secrets
and prompts, and what is in the file in the end."""

import base64
import json
import os
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from agent.evidence.children import Children
from agent.support.gather import Gathering
from agent.support.pack import RESERVE_BYTES, Packing
from agent.support.sources import COMMANDS, FILES, Command
from tests.own_children import OwnChildren

TREE = Path(__file__).resolve().parents[3]
SECRETS = {
    "env file": "envfile-Zm9vYmFy",
    "key file": "keyfile-Zm9vYmFyMTIzNA",
    "token file": "tokenfile-cXV4cXV4",
    "password": "podman-login-pass",
    "variable": "variable-of-a-profile",
    "argument": "argument-of-vllm",
    "comment": "comment-in-settings",
    "other file": "key-beside-settings",
    "unit": "variable-of-a-unit",
    "container": "variable-of-a-container",
    "log": "token-in-a-log-line",
    "tls": "MIIEvQIBADANBgkqhkiG9w0BAQ",
    "broken file": "password-in-a-broken-file",
}
KNOWN = ("env file", "key file", "token file")  # whose values are known
PROMPTS = ("what ails my mother", "second line of it", "take two aspirins", "a prompt in evidence")
SEEN = "device lost on chip 3"  # what must stay
ENGINE = "2026-11-29T23:37:00.123456+0000 edge1 deepseek-vllm-8b[77]: "

pytestmark = pytest.mark.timeout(120)  # some thirty processes


def plant(root: Path) -> None:
    """The files of a host."""
    login = base64.b64encode(f"me:{SECRETS['password']}".encode()).decode()
    profile = f"""
        api_key_file = "/etc/deepseek-agent/api.key"
        tls_key = "/etc/deepseek-agent/tls.pem"
        [environment]
        MY_WORD = "{SECRETS["variable"]}"
        HCCL_BUFFSIZE = "120"
        [vllm]
        extra_args = ["--api-key", "{SECRETS["argument"]}"]
        """
    evidence = f"== journal ==\n{ENGINE}{SEEN}\n{ENGINE}prompt: '{PROMPTS[3]}'\n== metrics ==\nx 1"
    files = {
        "run/deepseek-agent/env/8b.env": f"VLLM_API_KEY={SECRETS['env file']}\n",
        "etc/deepseek-agent/agent.toml": f"""
            # {SECRETS["comment"]}
            mode = "observe"
            [supply.modelscope]
            token_file = "/etc/deepseek-agent/hub.token"
            [registries."r.example"]
            auth_file = "/root/auth.json"
            """,
        "etc/deepseek-agent/models.d/8b.toml": profile,
        "etc/deepseek-agent/models.d/bad.toml": f'password = "{SECRETS["broken file"]}" =',
        "etc/deepseek-agent/api.key": SECRETS["key file"],
        "etc/deepseek-agent/hub.token": SECRETS["token file"],
        "etc/deepseek-agent/notes.bak": SECRETS["other file"],
        "etc/deepseek-agent/tls.pem": "-----BEGIN PRIVATE KEY-----\n"
        f"{SECRETS['tls']}\n-----END PRIVATE KEY-----\n",
        "root/auth.json": json.dumps({"auths": {"r.example": {"auth": login}}}),
        "run/systemd/system/deepseek-vllm-8b.service": "[Service]\n"
        f'ExecStart=podman run "--env=MY_WORD={SECRETS["unit"]}" --shm-size=1g\n',
        "var/lib/deepseek-agent/evidence/8b-20261129T230000Z.txt": evidence,
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    with sqlite3.connect(root / "var/lib/deepseek-agent/events.db") as database:
        database.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, text TEXT)")
        message = f"{SEEN}; --hf-token={SECRETS['log']}"
        database.execute("INSERT INTO events (text) VALUES (?)", (json.dumps({"m": message}),))
    database.close()


def programs(folder: Path) -> None:
    """All say everything that one should not send, each in its own shape."""
    known = "\n".join(f"{ENGINE}it has {one}" for key, one in SECRETS.items() if key in KNOWN)
    journal = "\n".join(
        (
            f"{ENGINE}{SEEN}",
            known,
            f"{ENGINE}login with {SECRETS['password']}, key {SECRETS['tls']}",
            f"{ENGINE}args: --api-key={SECRETS['argument']} HF_TOKEN={SECRETS['log']}",
            f"{ENGINE}Received request 1: prompt: '{PROMPTS[0]}\n    {PROMPTS[1]}'",
            f"{ENGINE}Generated response 1: output: '{PROMPTS[2]}'",
            f"{ENGINE}[ERROR] {SEEN}",
        )
    )
    variable = f"MY_WORD={SECRETS['container']}"
    inspect = [{"Config": {"Env": [variable], "CreateCommand": ["podman", "-e", variable]}}]
    shown = f"Environment={variable}\nExecStart={{ argv[]=podman --env={variable} ; }}\n{SEEN}"
    said = {
        "journalctl": journal,
        "podman": json.dumps(inspect),
        "systemctl": shown,
        "dmesg": f"devdrv: {SEEN} token={SECRETS['log']}\nusb: {PROMPTS[0]}",
        **dict.fromkeys(("npu-smi", "ss", "ip", "df", "free", "rpm"), SEEN),
    }
    for name, text in said.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
        program = folder / name
        # podman ps gives names to podman inspect: any will do.
        version = '[ "$1" = --version ] && exec echo 5.4.2'
        program.write_text(f"#!/bin/sh\n{version}\ncat {folder}/{name}.txt\n", encoding="utf-8")
        program.chmod(0o755)


def run(root: Path, programs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent.cli", "support-bundle", "--root", str(root), *arguments],
        cwd=root,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(TREE)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.fixture
def host(tmp_path: Path) -> tuple[Path, Path]:
    root, bin_folder = tmp_path / "host", tmp_path / "bin"
    bin_folder.mkdir()
    root.mkdir()
    plant(root)
    programs(bin_folder)
    return root, bin_folder


def read(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        return {
            member.name.partition("/")[2]: (archive.extractfile(member) or sys.exit())
            .read()
            .decode()
            for member in archive.getmembers()
        }


def test_no_secret_and_no_prompt_gets_into_it(host: tuple[Path, Path]) -> None:
    done = run(*host, "-o", "out.tar.gz")
    assert (done.returncode, done.stderr) == (0, "")
    path = host[0] / "out.tar.gz"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in host[0].iterdir() if "support" in one.name] == []

    files = read(path)
    everything = "\n".join((done.stdout, *files, *files.values()))
    leaks = {
        (secret, name)
        for secret, value in SECRETS.items()
        for name, text in files.items()
        if value in text
    }
    assert leaks == set()
    assert [one for one in SECRETS.values() if one in done.stdout] == []
    assert [one for one in PROMPTS if one in everything] == []

    assert next(iter(files)) == "MANIFEST.txt"
    for name in files:
        assert name in files["MANIFEST.txt"] or name == "MANIFEST.txt"
    useful = (
        *("journal/engines.txt", "journal/agent.txt", "kernel.txt", "systemd/show.txt"),
        *("events.json", "evidence/8b-20261129T230000Z.txt", "npu-smi.txt"),
    )
    assert [name for name in useful if SEEN not in files[name]] == []
    assert 'environment.HCCL_BUFFSIZE = "120"' in files["etc/models.d/8b.toml"]
    assert 'mode = "observe"' in files["etc/agent.toml"]
    assert "--shm-size=1g" in files["units/run/deepseek-vllm-8b.service"]
    assert "api.key" in files["etc/list.txt"]
    # Whoever runs it is told what it is.
    assert "removed:" in done.stdout
    assert "look into it before you send it" in done.stdout
    # The agent does not answer here.
    assert "status.json: " in files["MANIFEST.txt"].partition("Missing")[2]


def test_a_program_that_hangs_costs_its_deadline(tmp_path: Path) -> None:
    children = OwnChildren()
    packing = Packing("x", 10**6, 1.7e9)
    gathering = Gathering(tmp_path, (), packing, lambda name: None)
    argv = ("sh", "-c", "echo begun; exec sleep 600")
    gathering.run_commands((Command("a.txt", "one", argv, limit_s=0.3),))
    gathering.run_commands((Command("b.txt", "another", ("sh", "-c", "echo well; exit 3")),))
    gathering.run_commands((Command("c.txt", "a third", (str(tmp_path / "nowhere"),)),))
    assert children.collect() == [9]
    problems = [entry.problem for entry in gathering.entries]
    assert problems[0].startswith("no more within 0.3 s")
    assert problems[1] == "well"  # it ended badly, and this is all that it said
    assert "No such file" in problems[2]
    (tmp_path / "x.tar.gz").write_bytes(packing.finish(""))
    assert read(tmp_path / "x.tar.gz")["a.txt"].startswith("begun\n(no more within")


def test_requests_of_the_agent_push_nothing_out_of_the_journal_of_engines(tmp_path: Path) -> None:
    log = tmp_path / "journal"
    health = f'{ENGINE}INFO:     10.88.0.1:4711 - "GET /health HTTP/1.1" 200 OK\n'
    log.write_text(f"{ENGINE}ERROR {SEEN}\n{health * 20_000}{ENGINE}INFO the last\n")
    packing = Packing("x", 10**6, 1.7e9)
    gathering = Gathering(tmp_path, (), packing, lambda name: None)
    argv = ("tac", str(log))
    gathering.run_commands((Command("e.txt", "engines", argv, of_engines=True),))
    gathering.run_commands(
        (Command("f.txt", "fails", ("sh", "-c", "echo why; exit 3"), of_engines=True),)
    )
    (tmp_path / "x.tar.gz").write_bytes(packing.finish(""))
    assert read(tmp_path / "x.tar.gz")["e.txt"] == (
        f"{ENGINE}ERROR {SEEN}\n{ENGINE}INFO the last\n"
        "(20000 lines about requests for /health, /metrics and a token are left out)\n"
    )
    assert [entry.problem for entry in gathering.entries] == ["", "why"]
    (engines,) = (one for one in COMMANDS if one.of_engines)
    assert engines.name == "journal/engines.txt"
    assert "--reverse" in engines.argv


def test_of_a_slow_journal_of_engines_the_end_is_taken(tmp_path: Path) -> None:
    log = tmp_path / "journal"
    log.write_text("".join(f"{ENGINE}INFO {number}\n" for number in range(100)))
    children = OwnChildren()
    packing = Packing("x", 10**6, 1.7e9)
    gathering = Gathering(tmp_path, (), packing, lambda name: None)
    argv = ("sh", "-c", f"tac {log} | head -n 2; exec sleep 60")
    gathering.run_commands((Command("e.txt", "engines", argv, limit_s=2.0, of_engines=True),))
    children.collect()
    (tmp_path / "x.tar.gz").write_bytes(packing.finish(""))
    assert read(tmp_path / "x.tar.gz")["e.txt"] == (
        f"{ENGINE}INFO 98\n{ENGINE}INFO 99\n(no more within 2 s)\n"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can become somebody else")
def test_what_one_may_not_see_is_missing() -> None:
    """Seen with openEuler's folders: /run/containers is root's, and so is that of the evidence."""

    def work(output: int) -> None:
        os.setuid(65534)
        gathering = Gathering(Path(folder), (), Packing("x", 10**6, 1.7e9), lambda name: None)
        for files in FILES:
            gathering.read_files(files)
        said = [(entry.name, entry.problem) for entry in gathering.entries]
        os.write(output, json.dumps(said).encode())

    with tempfile.TemporaryDirectory() as folder:
        plant(Path(folder))
        for closed in ("run", "var/lib/deepseek-agent/evidence"):
            (Path(folder) / closed).chmod(0o700)
        Path(folder).chmod(0o755)
        children = Children()
        child = children.start(work, 30.0)
        children.wait([child])
    told = dict(json.loads(child.text))
    for name in ("evidence", "units/run", "units/quadlet-run"):
        assert told[name].endswith("Permission denied")
    assert told["etc/agent.toml"] == ""


def test_a_folder_that_is_not_there_is_told_at_once(host: tuple[Path, Path]) -> None:
    done = run(*host, "-o", "nowhere/out.tar.gz")
    assert done.returncode == 4
    assert "cannot write the bundle to nowhere/out.tar.gz: No such file" in done.stderr


@pytest.mark.parametrize("size", ["0", "x", "-1", "1025"])
def test_a_limit_that_is_none(host: tuple[Path, Path], size: str) -> None:
    assert run(*host, "--max-mib", size).returncode == 2


# --- the archive ---------------------------------------------------------------------------------


def test_an_archive_is_never_longer_than_its_limit(tmp_path: Path) -> None:
    limit = 300_000
    packing = Packing("x", limit, 1.7e9)
    texts = {f"{number}.txt": os.urandom(50_000).hex() for number in range(9)}
    taken = [name for name, text in texts.items() if packing.add(name, text)]
    assert 1 < len(taken) < 9
    assert packing.add("small.txt", "it has room")
    path = tmp_path / "x.tar.gz"
    content = packing.finish("m")
    path.write_bytes(content)
    assert limit - RESERVE_BYTES - 60_000 < len(content) <= limit
    assert read(path) == {
        "MANIFEST.txt": "m",
        **{name: texts[name] for name in taken},
        "small.txt": "it has room",
    }
    listed = subprocess.run(["tar", "-tzf", path], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == [
        "x/MANIFEST.txt",
        *(f"x/{name}" for name in taken),
        "x/small.txt",
    ]
    assert listed.stderr == ""


def test_long_and_strange_names_are_kept(tmp_path: Path) -> None:
    packing = Packing("x", 10**6, 1.7e9)
    name = f"{'a' * 150}/模型-{'b' * 80}.txt"
    assert packing.add(name, "é")
    (tmp_path / "x.tar.gz").write_bytes(packing.finish(""))
    assert read(tmp_path / "x.tar.gz")[name] == "é"
