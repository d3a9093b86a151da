# SPDX-License-Identifier: MulanPSL-2.0
"""What the units and the engine's container may not do, and that what they are for works all the
same. (Nearly all other tests of this folder run in the same sandboxes.)
"""

import pytest

from . import product, sandbox_table
from .faults import main_pid
from .host import LabHost
from .product import CONTAINER, FRONT
from .rootfs import Flavour

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

# By `systemd-analyze security`. What is left to agentd: root, Podman's socket, the network.
SCORES = {"deepseek-agent.service": 2.0, FRONT: 2.0}
SHUT = "read_only_root = true\n"
PROFILE = "/etc/deepseek-agent/models.d/8b.toml"
FOR_QUADLETS = "/etc/containers/systemd"
FULL = ["mount", "-t", "tmpfs", "-o", "nr_inodes=1", "full", "/tmp"]


@pytest.fixture(scope="module", autouse=True)
def _prepared(host: LabHost) -> None:
    sandbox_table.prepare(host)
    assert product.start(host, "enable", "--now").returncode == 0


GRANTED = """
setpriv --reuid=65534 --regid=65534 --clear-groups sleep 60 & pid=$!
systemd-run --quiet --wait --pipe --collect {properties} sh -ec "kill -0 $pid
    for path in {paths}; do
        touch \\$path/.sandbox; rm \\$path/.sandbox; done"
status=$?
kill $pid
exit $status
"""


@pytest.mark.parametrize("unit", sandbox_table.units())
def test_each_restriction_is_in_force_and_needed(host: LabHost, unit: str) -> None:
    rows = list(sandbox_table.look(host, unit))
    assert rows
    assert [row for row in rows if row.problem] == []


def test_what_the_agent_needs_is_let_through(host: LabHost) -> None:
    """To end what an engine left behind as another user; to write units, orders and its state."""
    sandbox = sandbox_table.read_sandbox("deepseek-agent.service")
    properties = " ".join(f"--property='{name}={value}'" for name, value in sandbox.lines)
    paths = next(value for name, value in sandbox.lines if name == "ReadWritePaths")
    paths = paths.replace(" -/", " /")
    script = GRANTED.format(properties=properties, paths=paths)
    assert host.run(["sh", "-c", script], check=False).stderr == ""


def test_scores(host: LabHost) -> None:
    for unit, limit in SCORES.items():
        line = host.run(["systemd-analyze", "security", "--no-pager", unit]).stdout.splitlines()[-1]
        assert float(line.split(":")[1].split()[0]) <= limit, line


def test_a_model_starts_while_no_temporary_file_can_be_made(host: LabHost) -> None:
    """And an agent that has ended comes back at the latest when there is room: systemd 252 makes a
    folder in /tmp for PrivateDevices=."""
    host.run(FULL)
    try:
        host.run(["systemctl", "restart", FRONT], timeout_s=120)
        old = product.container_started_at(host)
        host.run(["systemctl", "restart", "deepseek-agent"], check=host.flavour is Flavour.MODERN)
    finally:
        host.run(["umount", "/tmp"])
    product.wait_state(host, "deepseek-agent", "active")
    product.wait_serving(host)
    assert product.container_started_at(host) == old, product.describe(host)


def test_clearing_temporary_files_breaks_nothing(host: LabHost) -> None:
    """As scripts do; what systemd has in /tmp for a sandbox is then missing for the unit's next
    process."""
    old = product.container_started_at(host)
    host.run(["sh", "-c", "rm --recursive /tmp/systemd-private-*"])
    # The legacy host's unit is adapted (product.OWN_BOOT_ID).
    verb = "reload" if host.flavour is Flavour.MODERN else "restart"
    host.run(["systemctl", verb, "deepseek-agent"])
    host.run(["systemctl", "restart", FRONT], timeout_s=120)
    assert product.container_started_at(host) != old


def test_a_folder_that_somebody_has_removed_keeps_no_agent_down(host: LabHost) -> None:
    """An empty folder invites it. The legacy host's unit is adapted, and does not make it again."""
    old = product.container_started_at(host)
    host.run(["rmdir", FOR_QUADLETS])
    try:
        host.run(["systemctl", "restart", "deepseek-agent"])
        product.wait_serving(host)
        made = host.run(["stat", "--format=%a", FOR_QUADLETS], check=False).stdout.strip()
        assert made == ("755" if host.flavour is Flavour.MODERN else "")
        assert product.container_started_at(host) == old
    finally:
        host.run(["mkdir", "-p", FOR_QUADLETS])
        host.run(["systemctl", "restart", "deepseek-agent"])


def test_the_engines_rights(host: LabHost) -> None:
    status = host.run(["podman", "exec", CONTAINER, "cat", "/proc/1/status"]).stdout
    seen = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert seen["NoNewPrivs"] == "1"
    # CHOWN, DAC_OVERRIDE, FOWNER, KILL (linux/capability.h).
    assert int(seen["CapBnd"], 16) == 1 << 0 | 1 << 1 | 1 << 3 | 1 << 5
    score = host.run(["podman", "exec", CONTAINER, "cat", "/proc/1/oom_score_adj"]).stdout
    assert score.strip() == "100"


def test_a_root_that_cannot_be_written(host: LabHost) -> None:
    before = host.read(PROFILE)
    host.write(PROFILE, SHUT + before)
    try:
        host.run(["systemctl", "reload", "deepseek-agent"])
        host.run(["systemctl", "restart", FRONT], timeout_s=120)
        assert product.ask(host) is not None
        touch = "touch /usr/x; touch $HOME/x ./y && pwd"
        done = host.run(["podman", "exec", CONTAINER, "sh", "-c", touch], check=False)
        assert "Read-only file system" in done.stderr
        assert done.stdout.strip() == "/tmp"
    finally:
        host.write(PROFILE, before)
        host.run(["systemctl", "reload", "deepseek-agent"])
        host.run(["systemctl", "restart", FRONT], timeout_s=120)


def test_an_engine_that_takes_all_memory_takes_nobody_with_it(host: LabHost) -> None:
    """With less than deepseek.slice has; the controllers are the legacy host's alone here."""
    if host.flavour is Flavour.MODERN:
        pytest.skip("memory control: NOT RUN, the machine has it on cgroup v1 alone")
    limit = host.run(["systemctl", "show", "deepseek.slice", "--property=MemoryMax"]).stdout
    assert limit.strip() != "MemoryMax=infinity"
    others = {unit: main_pid(host, unit) for unit in ("deepseek-agent", "deepseek-npud", FRONT)}
    host.run(["systemctl", "set-property", "--runtime", "deepseek.slice", "MemoryMax=400M"])
    try:
        eat = "bytearray(500 << 20)"
        done = host.run(["podman", "exec", CONTAINER, "python3", "-c", eat], check=False)
        assert done.returncode == 137
    finally:
        host.run(["systemctl", "set-property", "--runtime", "deepseek.slice", "MemoryMax=95%"])
    assert {unit: main_pid(host, unit) for unit in others} == others
    product.wait_serving(host)
    assert product.ask(host) is not None


def test_an_engines_processes_and_threads_have_a_limit(host: LabHost) -> None:
    """32768 of them are not started here: what the kernel was told is looked at."""
    if host.flavour is Flavour.MODERN:
        pytest.skip("limit of processes: NOT RUN, the machine has it on cgroup v1 alone")
    seen = host.run(["podman", "exec", CONTAINER, "cat", "/sys/fs/cgroup/pids/pids.max"]).stdout
    assert seen.strip() == "32768"
