# SPDX-License-Identifier: MulanPSL-2.0
"""rpm/selinux, linked into Debian's base policy, and into one with openEuler's names: what has to
be allowed is, what may not be is not, and each file of ours has a type. Not on a kernel."""

import re
from pathlib import Path

import pytest

from agent.action.healing import SERVICE as SERVICE_UNIT
from agent.action.healing import SOCKET as SOCKET_UNIT
from agent.plan.needs import MANAGER_DEVICES
from agent.render.choose import ETC_QUADLET, RUN_QUADLET, RUN_UNIT
from agent.status.client import SOCKET as SOCKET_PATH
from tests.selinux_policy import NAMES_OF_OPENEULER, TREE, Policy, link

pytestmark = pytest.mark.timeout(300)

SOCKET = str(SOCKET_PATH)
CONFINED = ("agentd", "attach", "supply", "evidence")
PROGRAMS = {
    **{name: f"deepseek_{name}_exec_t" for name in (*CONFINED, "npud")},
    **dict.fromkeys(("drain", "front-is-up", "front-stopped"), "bin_t"),
}
WRITING = frozenset({"write", "append", "create", "unlink", "rename", "setattr"})
READING = frozenset({"open", "read"})


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return link(tmp_path_factory.mktemp("debian"))


@pytest.fixture(scope="module")
def openeuler(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return link(tmp_path_factory.mktemp("openeuler"), NAMES_OF_OPENEULER)


@pytest.fixture(params=["debian", "openeuler"])
def policy(request: pytest.FixtureRequest) -> Policy:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Policy)
    return found


@pytest.mark.parametrize("name", [*CONFINED, "npud"])
def test_systemd_starts_each_program_in_its_domain(policy: Policy, name: str) -> None:
    domain, program = f"deepseek_{name}_t", f"deepseek_{name}_exec_t"
    assert policy.next_type("init_t", program, "process") == domain
    assert "transition" in policy.allowed("init_t", domain, "process")
    # With NoNewPrivileges= it would else stay in init_t.
    assert "nnp_transition" in policy.allowed("init_t", domain, "process2")
    assert {"execute", "read", "open"} <= policy.allowed("init_t", program, "file")
    assert "entrypoint" in policy.allowed(domain, program, "file")
    # READY=1 and the journal, also where their sockets are older than the policy.
    for owner in ("init_t", "kernel_t"):
        assert "sendto" in policy.allowed(domain, owner, "unix_dgram_socket")
    assert "connectto" in policy.allowed(domain, "kernel_t", "unix_stream_socket")


ALLOWED = [
    # Anybody may ask for the status, attach has to, systemd makes the socket.
    ("user_t", "deepseek_agentd_t", "unix_stream_socket", "connectto"),
    ("staff_t", "deepseek_run_t", "sock_file", "write"),
    ("unconfined_t", "deepseek_agentd_t", "unix_stream_socket", "connectto"),
    ("deepseek_attach_t", "deepseek_agentd_t", "unix_stream_socket", "connectto"),
    ("init_t", "deepseek_run_t", "sock_file", "create unlink"),
    ("init_t", "deepseek_agentd_t", "unix_stream_socket", "create bind listen"),
    # ReadWritePaths= and StateDirectory= are mounts.
    ("init_t", "deepseek_run_t", "dir", "mounton"),
    ("init_t", "deepseek_var_lib_t", "dir", "mounton"),
    # agentd: systemd over D-Bus, npud, the engines, the journal.
    ("deepseek_agentd_t", "system_dbusd_t", "unix_stream_socket", "connectto"),
    ("deepseek_agentd_t", "init_t", "dbus", "send_msg"),
    ("init_t", "deepseek_agentd_t", "dbus", "send_msg"),
    ("deepseek_agentd_t", "init_t", "system", "reload status"),
    ("deepseek_agentd_t", "deepseek_unit_t", "service", "start stop status"),
    ("deepseek_agentd_t", "deepseek_npud_t", "unix_stream_socket", "connectto"),
    ("deepseek_agentd_t", "http_port_t", "tcp_socket", "name_connect"),
    ("deepseek_agentd_t", "unreserved_port_t", "tcp_socket", "name_connect name_bind"),
    ("deepseek_agentd_t", "var_log_t", "file", "open read"),
    ("deepseek_agentd_t", "sshd_t", "file", "open read"),  # /proc of any process
    ("deepseek_agentd_t", "bin_t", "file", "execute execute_no_trans"),
    ("deepseek_agentd_t", "deepseek_model_t", "file", "open read"),
    ("deepseek_agentd_t", "deepseek_tls_t", "file", "open read getattr"),
    ("deepseek_agentd_t", "deepseek_var_lib_t", "file", "create write rename unlink"),
    ("deepseek_agentd_t", "deepseek_key_t", "file", "create write rename unlink"),
    ("deepseek_agentd_t", "deepseek_unit_t", "file", "create write rename unlink"),
    ("deepseek_agentd_t", "deepseek_podman_unit_t", "service", "start stop status"),
    ("systemd_generator_t", "deepseek_podman_unit_t", "file", "open read"),
    # The folders of others in which we have files: open to all, as they were.
    ("deepseek_agentd_t", "deepseek_quadlets_t", "dir", "add_name remove_name write"),
    ("deepseek_supply_t", "deepseek_registries_t", "dir", "add_name remove_name write create lock"),
    ("init_t", "deepseek_quadlets_t", "dir", "mounton"),
    ("systemd_generator_t", "deepseek_quadlets_t", "file", "open read"),
    ("user_t", "deepseek_registries_t", "file", "open read"),
    ("user_t", "deepseek_registries_t", "dir", "search read"),
    ("systemd_tmpfiles_t", "deepseek_quadlets_t", "dir", "create setattr relabelto"),
    ("systemd_generator_t", "deepseek_unit_t", "file", "open read"),
    # The others.
    ("deepseek_npud_t", "deepseek_npu_t", "chr_file", "open read write ioctl map"),
    ("deepseek_supply_t", "deepseek_model_t", "file", "create write rename unlink link"),
    ("deepseek_supply_t", "deepseek_model_t", "lnk_file", "create unlink rename"),
    ("deepseek_supply_t", "nfs_t", "dir", "add_name create remove_name"),
    ("deepseek_supply_t", "nfs_t", "file", "create write rename unlink"),
    ("deepseek_supply_t", "http_port_t", "tcp_socket", "name_connect"),
    ("deepseek_evidence_t", "sshd_t", "process", "ptrace"),
    ("deepseek_evidence_t", "deepseek_var_lib_t", "file", "create write"),
]
ALLOWED_WITH_CONTAINERS = [
    ("deepseek_agentd_t", "container_runtime_t", "unix_stream_socket", "connectto"),
    ("deepseek_agentd_t", "container_var_run_t", "sock_file", "write"),
    ("deepseek_agentd_t", "container_var_run_t", "dir", "add_name remove_name write"),
    ("deepseek_agentd_t", "systemd_unit_file_t", "dir", "add_name remove_name write"),
    ("deepseek_agentd_t", "systemd_unit_file_t", "service", "status"),
    ("deepseek_agentd_t", "container_t", "process", "sigkill"),
    ("deepseek_supply_t", "container_runtime_t", "unix_stream_socket", "connectto"),
    ("deepseek_supply_t", "container_runtime_t", "process", "transition"),
    ("deepseek_evidence_t", "container_runtime_t", "process2", "nnp_transition"),
    ("deepseek_evidence_t", "container_t", "process", "ptrace"),
    ("init_t", "container_var_run_t", "dir", "mounton"),
    ("container_runtime_t", "deepseek_key_t", "file", "open read"),
    ("container_runtime_t", "deepseek_model_t", "dir", "mounton"),
    ("container_runtime_t", "deepseek_npu_t", "chr_file", "mounton"),
    ("container_t", "deepseek_model_t", "dir", "search read"),
    ("container_t", "deepseek_model_t", "file", "open read map"),
    ("container_t", "deepseek_certificate_t", "file", "open read"),
    ("container_t", "deepseek_tls_t", "file", "open read"),
    ("container_runtime_t", "deepseek_tls_t", "file", "mounton"),
    ("container_t", "deepseek_npu_t", "chr_file", "open read write ioctl map"),
    ("container_t", "lib_t", "file", "open read map execute"),
    ("container_t", "bin_t", "file", "open read map execute"),
    ("container_t", "usr_t", "file", "open read map execute execute_no_trans"),
    ("container_t", "etc_t", "file", "open read"),
]


@pytest.mark.parametrize(("source", "target", "kind", "wanted"), ALLOWED)
def test_what_has_to_be_allowed(
    policy: Policy, source: str, target: str, kind: str, wanted: str
) -> None:
    assert set(wanted.split()) <= policy.allowed(source, target, kind, everywhere=True)


@pytest.mark.parametrize(("source", "target", "kind", "wanted"), ALLOWED_WITH_CONTAINERS)
def test_what_has_to_be_allowed_with_containers(
    openeuler: Policy, source: str, target: str, kind: str, wanted: str
) -> None:
    assert set(wanted.split()) <= openeuler.allowed(source, target, kind, everywhere=True)


@pytest.mark.parametrize("domain", [f"deepseek_{name}_t" for name in CONFINED])
def test_what_none_of_them_may(policy: Policy, domain: str) -> None:
    assert not policy.allowed(domain, "shadow_t", "file") & (READING | WRITING)
    assert not policy.allowed(domain, "etc_t", "dir") & {"add_name", "remove_name"}
    own = domain[:-1] + "exec_t"
    for target in ("etc_t", "bin_t", "lib_t", "usr_t", "user_home_t", "deepseek_tls_t", own):
        assert not policy.allowed(domain, target, "file") & WRITING, target
    for target in ("unconfined_t", "init_t", "sshd_t"):
        assert "transition" not in policy.allowed(domain, target, "process")
    assert not policy.allowed(domain, "fixed_disk_device_t", "blk_file") & (READING | WRITING)
    assert "module_load" not in policy.allowed(domain, domain, "system")
    assert not policy.allowed(domain, domain, "capability") & {"sys_module", "sys_rawio", "mknod"}
    # Whoever opens an NPU from a sandbox occupies it (-8020).
    assert not policy.allowed(domain, "deepseek_npu_t", "chr_file") & {"open", "ioctl"}


@pytest.mark.parametrize("user", ["user_t", "staff_t", "httpd_t", "sshd_t"])
def test_who_may_not_touch_what_is_ours(policy: Policy, user: str) -> None:
    folders = ("quadlets", "registries")
    for target in ("run", "key", "tls", "certificate", "var_lib", "model", "unit", *folders):
        name = f"deepseek_{target}_t"
        assert not policy.allowed(user, name, "file") & WRITING, name
        assert not policy.allowed(user, name, "dir") & {"add_name", "remove_name"}, name
    for target in ("key", "tls"):
        assert not policy.allowed(user, f"deepseek_{target}_t", "file") & READING, target
    assert not policy.allowed(user, "deepseek_npud_t", "unix_stream_socket")
    assert not policy.allowed(user, "deepseek_npu_t", "chr_file") & {"open", "ioctl"}


def test_what_the_confined_may_not_do_to_each_other(policy: Policy) -> None:
    may = policy.allowed
    assert not may("deepseek_agentd_t", "deepseek_model_t", "file") & WRITING
    assert not may("deepseek_evidence_t", "deepseek_model_t", "file") & WRITING
    for name in ("key", "tls"):
        assert not may("deepseek_evidence_t", f"deepseek_{name}_t", "file") & READING
        assert not may("deepseek_supply_t", f"deepseek_{name}_t", "file") & READING
    for unit in {"power_unit_t", "systemd_unit_t", "systemd_unit_file_t"} & policy.types:
        assert not may("deepseek_agentd_t", unit, "service") & {"start", "stop"}, unit
    for name in ("quadlets", "registries"):
        for source in ("agentd", "supply"):
            assert not may(f"deepseek_{source}_t", f"deepseek_{name}_t", "file") & WRITING
    assert "add_name" not in may("deepseek_agentd_t", "deepseek_registries_t", "dir")
    assert "add_name" not in may("deepseek_supply_t", "deepseek_quadlets_t", "dir")
    for name in ("attach", "evidence"):
        assert not may(f"deepseek_{name}_t", f"deepseek_{name}_t", "tcp_socket")
    for name in ("run", "key", "var_lib", "model"):
        assert not may("deepseek_attach_t", f"deepseek_{name}_t", "file") & (READING | WRITING)
    assert not may("deepseek_attach_t", "deepseek_attach_t", "capability")


def test_what_an_engine_may_not(openeuler: Policy) -> None:
    may = openeuler.allowed
    assert not may("container_t", "deepseek_agentd_t", "unix_stream_socket")
    for name in ("run", "key", "var_lib"):
        assert not may("container_t", f"deepseek_{name}_t", "file") & (READING | WRITING)
        assert not may("container_t", f"deepseek_{name}_t", "dir") & {"search", "read"}
    for name in ("model", "certificate", "tls", "unit"):
        assert not may("container_t", f"deepseek_{name}_t", "file") & WRITING
        assert not may("container_t", f"deepseek_{name}_t", "dir") & {"add_name", "remove_name"}
    for device in ("device_t", "fixed_disk_device_t", "memory_device_t"):
        assert not may("container_t", device, "chr_file") & (READING | WRITING)


def test_rendered_units_get_a_type_of_their_own(openeuler: Policy, debian: Policy) -> None:
    etc = "deepseek_quadlets_t"
    for folder in ("systemd_unit_file_t", "container_var_run_t", "var_run_t", etc):
        assert openeuler.next_type("deepseek_agentd_t", folder, "file") == "deepseek_unit_t"
    for folder in ("systemd_unit_t", "init_runtime_t", "var_run_t", etc):
        assert debian.next_type("deepseek_agentd_t", folder, "file") == "deepseek_unit_t"


def test_the_ca_of_a_registry_gets_a_type_of_its_own(policy: Policy) -> None:
    found = policy.next_type("deepseek_supply_t", "deepseek_registries_t", "file")
    assert found == "deepseek_certificate_t"
    # The folder of a registry is as the one above, whoever makes it.
    assert policy.next_type("deepseek_supply_t", "deepseek_registries_t", "dir") == ""


def test_the_commands_of_podman_run_as_podman(openeuler: Policy) -> None:
    for name in ("supply", "evidence"):
        found = openeuler.next_type(f"deepseek_{name}_t", "container_runtime_exec_t", "process")
        assert found == "container_runtime_t"


def test_files_in_memory_are_as_those_in_tmp(policy: Policy) -> None:
    """memfd_create(2): else they would be of tmpfs, which nobody of ours may write."""
    assert policy.next_type("deepseek_supply_t", "tmpfs_t", "file") == "deepseek_tmp_t"
    assert policy.allowed("deepseek_supply_t", "deepseek_tmp_t", "file") >= WRITING


def test_categories_of_containers_hinder_nobody_who_kills_or_traces(openeuler: Policy) -> None:
    """Each container runs in categories of its own, our programs in none."""
    kills = {name for name in CONFINED if openeuler.is_one_of(f"deepseek_{name}_t", "mcskillall")}
    traces = {
        name for name in CONFINED if openeuler.is_one_of(f"deepseek_{name}_t", "mcsptraceall")
    }
    assert (kills, traces) == ({"agentd"}, {"evidence"})


def test_the_policy_links_when_only_the_main_module_is_off(tmp_path: Path) -> None:
    """semodule -d deepseek-agent, which is for when nothing else helps."""
    policy = link(tmp_path, ours="deepseek-agent-permissive.cil")
    assert not policy.permissive & {f"deepseek_{name}_t" for name in (*CONFINED, "npud")}


def test_nothing_is_enforced_until_somebody_says_so(policy: Policy) -> None:
    assert policy.permissive == {f"deepseek_{name}_t" for name in (*CONFINED, "npud")}


def names_of_programs() -> set[str]:
    launchers = {path.stem for path in (TREE / "rpm/launchers").glob("*.in")} - {"deepseekctl"}
    return launchers | {path.name for path in (TREE / "units").iterdir() if not path.suffix} - {
        "preset"
    }


def test_every_program_has_a_type(policy: Policy) -> None:
    assert names_of_programs() == set(PROGRAMS)
    paths = {f"/usr/libexec/deepseek-agent/{name}": wanted for name, wanted in PROGRAMS.items()}
    paths["/usr/bin/deepseekctl"] = "bin_t"
    assert policy.types_of("file", *paths) == paths


def test_every_unit_has_a_type(policy: Policy) -> None:
    units = [path for path in (TREE / "units").glob("*.s*") if path.is_file()]
    assert len(units) > 8
    found = policy.types_of("file", *(f"/usr/lib/systemd/system/{unit.name}" for unit in units))
    assert set(found.values()) == {"deepseek_unit_t"}


FOLDERS = {
    "/run/deepseek-agent/env": "deepseek_key_t",
    "/run/deepseek-agent/tls": "deepseek_certificate_t",
    "/run/deepseek-agent": "deepseek_run_t",
    "/var/lib/deepseek-agent": "deepseek_var_lib_t",
    "/var/lib/deepseek": "deepseek_model_t",
}
ELSEWHERE = ("/run/containers/systemd", "/etc/containers/systemd", "/etc/containers/certs.d")


def test_every_folder_has_a_type(policy: Policy) -> None:
    lines = (TREE / "units/tmpfiles.d/deepseek-agent.conf").read_text(encoding="utf-8")
    folders = set(re.findall(r"^d (\S+)", lines, re.MULTILINE)) - set(ELSEWHERE)
    assert folders >= set(FOLDERS)
    wanted = {}
    for folder in folders:
        known = next(name for start, name in FOLDERS.items() if Path(folder).is_relative_to(start))
        wanted[folder] = wanted[f"{folder}/some/file"] = known
        # Policies of openEuler 24.03's age know /run by its other name.
        if folder.startswith("/run/"):
            wanted[f"/var{folder}"] = known
    assert policy.types_of("dir", *wanted) == wanted
    assert policy.types_of("sock", SOCKET) == {SOCKET: "deepseek_run_t"}


def test_the_folders_of_others_have_types(policy: Policy) -> None:
    registry = "/etc/containers/certs.d/registry:5000"
    wanted = {
        "/etc/containers/systemd": "deepseek_quadlets_t",
        "/etc/containers/certs.d": "deepseek_registries_t",
        registry: "deepseek_registries_t",
        "/etc/containers": "etc_t",
    }
    assert policy.types_of("dir", *wanted) == wanted
    files = {
        "/etc/containers/systemd/other.container": "etc_t",
        f"{registry}/ca.crt": "etc_t",
        f"{registry}/deepseek-agent.crt": "deepseek_certificate_t",
        f"{registry}/.deepseek-agent.crt.new": "deepseek_certificate_t",
    }
    assert policy.types_of("file", *files) == files


def test_podman_s_units_have_a_type(policy: Policy) -> None:
    wanted = {
        f"{folder}/systemd/system/{unit}": "deepseek_podman_unit_t"
        for folder in ("/usr/lib", "/etc")
        for unit in (SOCKET_UNIT, SERVICE_UNIT)
    }
    assert policy.types_of("file", *wanted) == wanted
    other = "/usr/lib/systemd/system/podman-restart.service"
    assert policy.types_of("file", other)[other] != "deepseek_podman_unit_t"


def test_where_the_engines_keys_go_has_a_type(policy: Policy) -> None:
    wanted = {"/etc/deepseek-agent/tls/8b.key": "deepseek_tls_t"}
    assert policy.types_of("file", *wanted) == wanted


def test_what_is_rendered_keeps_its_type_when_relabelled(policy: Policy) -> None:
    quadlets = [f"{folder}/deepseek-vllm-8b.container" for folder in (RUN_QUADLET, ETC_QUADLET)]
    wanted = dict.fromkeys([*quadlets, f"{RUN_UNIT}/deepseek-vllm-8b.service"], "deepseek_unit_t")
    wanted |= {f"/var{path}": name for path, name in wanted.items() if path.startswith("/run/")}
    assert policy.types_of("file", *wanted) == wanted


def test_the_npus_have_a_type(policy: Policy) -> None:
    wanted = dict.fromkeys(("/dev/davinci0", "/dev/davinci15", *MANAGER_DEVICES), "deepseek_npu_t")
    wanted["/dev/davinci"] = "device_t"
    assert policy.types_of("c", *wanted) == wanted
