# SPDX-License-Identifier: MulanPSL-2.0
"""Ansible, as tests/ansible.lock names it, against a lab host: ssh is a way into that host.

In: the pip that this machine has. Out: a folder with ansible-core, kept; and what a playbook did.
`python3 -m tests.lab.ansible FOLDER ... HOST COMMAND` is called by Ansible in the place of ssh.
"""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .cache import build_key, ensure_built
from .host import LabHost
from .nspawn import ENVIRONMENT
from .process import CommandFailed, CommandTimedOut, Completed, LabError, run_command
from .vllm_env import PIP

TREE = Path(__file__).resolve().parents[2]
LOCK = TREE / "tests/ansible.lock"
PLAYBOOKS = TREE / "etc/fleet"
PIP_LIMIT_S = 600
PLAY_LIMIT_S = 400
NO_ROUTE = 255  # ssh's own exit status
NO_CONFIG = "empty.cfg"
CALLS = "calls"  # which hosts were asked for
RECAP = re.compile(
    r"^(?P<host>\S+) +: ok=\d+ +changed=(?P<changed>\d+) +unreachable=(?P<unreachable>\d+) "
    r"+failed=(?P<failed>\d+)",
    re.MULTILINE,
)


class AnsibleNotHad(LabError):
    """Nothing of the playbooks can be tested on this machine."""


@dataclass(frozen=True, slots=True)
class Recap:
    """What Ansible counts at the end, of one host."""

    changed: int
    unreachable: int
    failed: int


@dataclass(frozen=True, slots=True)
class Played:
    """A playbook that has ended. `asked`: the hosts that anything was sent to."""

    done: Completed
    recaps: Mapping[str, Recap]
    asked: frozenset[str]

    @property
    def output(self) -> str:
        return self.done.stdout + self.done.stderr


def ensure_ansible() -> Path:
    """Raises AnsibleNotHad."""
    key = build_key(LOCK.read_bytes(), sys.version)
    return ensure_built("ansible", key, _install)


def _install(target: Path) -> None:
    install = [*PIP, "install", "--require-hashes", "--only-binary=:all:", f"--target={target}"]
    try:
        run_command([*install, f"--requirement={LOCK}"], timeout_s=PIP_LIMIT_S)
    except (CommandFailed, CommandTimedOut) as error:
        lines = [line for line in str(error).splitlines() if line.startswith("ERROR:")]
        reason = (lines or str(error).splitlines())[0][:200]
        raise AnsibleNotHad(f"pip cannot install what {LOCK.name} names: {reason}") from error


def play(
    host: LabHost,
    playbook: str,
    folder: Path,
    *,
    others: Sequence[str] = (),
    **variables: object,
) -> Played:
    """Runs one of etc/fleet on `host` and then on `others`, which nobody can reach. `folder`:
    scratch. The variables are those of the playbook."""
    ansible = ensure_ansible()
    names = [host.name, *others]
    inventory, ssh, calls = folder / "hosts.json", folder / "ssh", folder / CALLS
    (folder / NO_CONFIG).write_text("")
    ssh.write_text(_wrapper(host, folder))
    ssh.chmod(0o755)
    calls.write_text("")
    reach = {
        "ansible_ssh_executable": str(ssh),
        "ansible_ssh_args": "",
        "ansible_ssh_transfer_method": "piped",
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
        "deepseek_dnf": "dnf4",  # it would go by the distribution
    }
    inventory.write_text(json.dumps({"deepseek": {"hosts": dict.fromkeys(names), "vars": reach}}))
    options = [f"--inventory={inventory}", f"--extra-vars={json.dumps(variables)}"]
    done = run_command(
        [sys.executable, "-m", "ansible", "playbook", *options, str(PLAYBOOKS / playbook)],
        env=_environment(ansible, folder),
        timeout_s=PLAY_LIMIT_S,
        check=False,
    )
    recaps = {
        found["host"]: Recap(int(found["changed"]), int(found["unreachable"]), int(found["failed"]))
        for found in RECAP.finditer(done.stdout)
    }
    return Played(done, recaps, frozenset(calls.read_text().split()))


def _wrapper(host: LabHost, folder: Path) -> str:
    module = f"{sys.executable} -m tests.lab.ansible"
    return f'#!/bin/sh\ncd {TREE} && exec {module} {host.folder.parent} {folder} "$@"\n'


def _environment(ansible: Path, folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ansible),
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_CONFIG": str(folder / NO_CONFIG),
    }


def main(arguments: Sequence[str]) -> None:
    """As ssh: it becomes that command, on that host."""
    hosts, folder, *_, name, command = arguments
    with Path(folder, CALLS).open("a") as calls:
        calls.write(f"{name}\n")
    try:
        entry = LabHost.attach(name, Path(hosts)).build_entry(["/bin/sh", "-c", command])
    except LabError as error:
        print(f"ssh: {error}", file=sys.stderr)
        sys.exit(NO_ROUTE)
    os.execve(entry[0], entry, dict(ENVIRONMENT))  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
