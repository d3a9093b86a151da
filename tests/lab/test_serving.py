# SPDX-License-Identifier: MulanPSL-2.0
"""The whole path on real hosts: dnf install, systemctl, an answered chat, and what comes between.

The tests of one host build on each other in the order of the file, as an operator's day does; each
leaves the model serving unless its name says otherwise.
"""

import json
import time

import pytest

from agent.render.workload import STOP_TIMEOUT_S

from . import product
from .host import LabHost
from .models import hide_model, show_model
from .npus import make_npus, remove_npus
from .product import CONTAINER, ENGINE, FRONT
from .rootfs import Flavour

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]


def test_enable_now_returns_when_the_model_has_answered(host: LabHost) -> None:
    done = product.start(host, "enable", "--now")
    assert done.returncode == 0, done.stderr
    answer = product.ask(host)
    assert answer is not None
    assert "openEuler" in answer
    assert product.show(host, FRONT, "StatusText")["StatusText"] == "serving"


def test_the_renderer_fits_the_host(host: LabHost) -> None:
    paths = product.show(host, ENGINE, "FragmentPath", "SourcePath", "Restart")
    quadlet = "/run/containers/systemd/deepseek-vllm-8b.container"
    unit = "/run/systemd/system/deepseek-vllm-8b.service"
    expected = {
        Flavour.MODERN: paths.get("SourcePath") == quadlet,
        Flavour.LEGACY: paths.get("FragmentPath") == unit,
    }
    assert expected[host.flavour], paths
    assert paths["Restart"] == "no"


def test_the_container_has_its_npu_and_no_other(host: LabHost) -> None:
    listed = host.run(["podman", "exec", CONTAINER, "sh", "-c", "ls /dev"]).stdout.split()
    npus = {name for name in listed if name.startswith("davinci")}
    assert npus == {"davinci0", "davinci_manager"}
    assert {"devmm_svm", "hisi_hdc"} <= set(listed)


def test_the_container_runs_with_few_rights(host: LabHost) -> None:
    status = host.run(["podman", "exec", CONTAINER, "cat", "/proc/1/status"]).stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    # CHOWN, DAC_OVERRIDE, FOWNER, KILL: bits 0, 1, 3, 5.
    assert int(fields["CapBnd"], 16) == 0b101011
    assert fields["NoNewPrivs"] == "1"
    assert int(fields["Seccomp"]) == 2


def test_only_the_port_is_open_and_only_here(host: LabHost) -> None:
    listening = host.run(["ss", "-Hltn"]).stdout
    addresses = [line.split()[3] for line in listening.splitlines()]
    assert all(address.startswith(("127.", "[::1]")) for address in addresses), addresses


def test_status_tells_about_it(host: LabHost) -> None:
    done = host.run(["deepseekctl", "status", "--json"])
    status = json.loads(done.stdout)
    assert status["schema"] == 1
    (instance,) = [one for one in status["instances"] if one["name"] == "8b"]
    assert instance["phase"] == "serving"
    assert instance["npus"] == [0]
    assert [npu["logic_id"] for npu in status["inventory"]["npus"]] == list(range(8))
    text = host.run(["deepseekctl", "status"]).stdout
    assert "● 8b" in text
    assert "serving" in text


def test_chat_render_and_logs(host: LabHost) -> None:
    assert "openEuler" in host.run(["deepseekctl", "chat", "8b", "openEuler?"]).stdout
    assert "/dev/davinci0" in host.run(["deepseekctl", "render", "8b"]).stdout
    logs = host.run(["deepseekctl", "logs", "8b"]).stdout
    assert "Application startup complete" in logs
    assert "loading the model" in logs
    assert "agentd[" in logs
    agents = [line for line in logs.splitlines() if "agentd[" in line]
    assert all("instance=8b" in line for line in agents)
    since = host.run(["deepseekctl", "logs", "8b", "--since=-1h"]).stdout
    assert set(logs.splitlines()) <= set(since.splitlines())


def test_another_user_may_look_and_not_act(host: LabHost) -> None:
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    assert host.run([*as_nobody, "deepseekctl", "status"]).returncode == 0
    done = host.run([*as_nobody, "deepseekctl", "restart", "8b"], check=False)
    assert done.returncode == 4
    assert "cannot do this for uid 65534" in done.stderr


@pytest.mark.parametrize("victims", [("deepseek-agent",), (FRONT,), ("deepseek-agent", FRONT)])
def test_killing_ours_leaves_the_engine_alone(host: LabHost, victims: tuple[str, ...]) -> None:
    before = product.container_started_at(host)
    pids = [product.show(host, unit, "MainPID")["MainPID"] for unit in victims]
    host.run(["kill", "-KILL", *pids])
    time.sleep(1.5)
    for unit in victims:
        product.wait_state(host, unit, "active")
    host.run(["deepseekctl", "status"])
    assert product.container_started_at(host) == before
    assert product.ask(host) is not None


def test_upgrade_of_the_agent_leaves_the_engine_alone(host: LabHost) -> None:
    before = product.container_started_at(host)
    host.run(["dnf", "-y", "reinstall", "deepseek-agent"], timeout_s=120)
    product.wait_state(host, "deepseek-agent", "active")
    assert product.container_started_at(host) == before
    assert product.active_state(host, FRONT) == "active"
    assert product.ask(host) is not None


def test_a_dead_engine_is_started_again(host: LabHost) -> None:
    before = product.container_started_at(host)
    host.run(["podman", "kill", "--signal=KILL", CONTAINER])
    product.ask_until_answered(host, limit_s=30)
    assert product.container_started_at(host) != before
    product.wait_state(host, FRONT, "active")


def test_stop_returns_when_the_container_is_gone(host: LabHost) -> None:
    assert product.start(host, "stop").returncode == 0
    assert product.leftovers(host) == []
    assert product.active_state(host, FRONT) == "inactive"
    assert product.start(host).returncode == 0
    assert product.ask(host) is not None


def test_stop_while_loading(host: LabHost) -> None:
    product.start(host, "stop")
    product.set_engine(host, load_s=60)
    product.start(host, "start", "--no-block")
    product.wait_state(host, ENGINE, "active")
    product.wait_status(host, FRONT, "loading the model")
    assert product.active_state(host, FRONT) == "activating"
    product.set_engine(host, load_s=2)
    stopped = product.start(host, "stop")
    assert stopped.returncode == 0
    # Not by SIGKILL after the stop timeout: as PID 1 the engine would not hear SIGTERM so early.
    assert stopped.seconds < STOP_TIMEOUT_S
    assert product.leftovers(host) == []
    assert product.start(host).returncode == 0
    assert product.ask(host) is not None


def test_stop_of_an_engine_that_ignores_sigterm(host: LabHost) -> None:
    product.start(host, "stop")
    product.set_engine(host, ignore_sigterm=True)
    assert product.start(host).returncode == 0
    stopped = product.start(host, "stop")
    assert stopped.returncode == 0
    assert stopped.seconds > STOP_TIMEOUT_S * 0.9  # it had its time
    assert product.leftovers(host) == []
    product.set_engine(host)
    assert product.start(host).returncode == 0


def test_stop_works_with_the_agent_dead(host: LabHost) -> None:
    host.run(["systemctl", "stop", "deepseek-agent.socket", "deepseek-agent.service"])
    assert product.active_state(host, ENGINE) == "active"
    assert product.start(host, "stop").returncode == 0
    assert product.leftovers(host) == []
    assert product.start(host).returncode == 0
    assert product.ask(host) is not None


def test_restart_again_and_again(host: LabHost) -> None:
    for _ in range(5):
        assert product.start(host, "restart").returncode == 0
    assert product.ask(host) is not None
    host.run(["deepseekctl", "restart", "8b"])
    time.sleep(1)
    product.ask_until_answered(host)


def test_an_unknown_instance_is_refused_with_the_reason(host: LabHost) -> None:
    done = host.run(["systemctl", "start", "deepseek@70b.service"], check=False)
    assert done.returncode == 1
    assert product.show(host, "deepseek@70b.service", "ExecMainStatus")["ExecMainStatus"] == "78"
    journal = host.run(["journalctl", "-b", "-u", "deepseek@70b", "-o", "cat"]).stdout
    assert "there is no profile of that name" in journal
    host.run(["systemctl", "reset-failed", "deepseek@70b.service"])


def test_one_that_is_enabled_and_has_no_profile_is_told_by_each_agent(host: LabHost) -> None:
    unit, told = "deepseek@70b.service", "70b is to serve, and has no profile"
    host.run(["systemctl", "enable", "--now", unit], check=False)
    for _ in range(2):
        done = host.run(["deepseekctl", "status"], check=False)
        assert (done.returncode, told in done.stdout) == (1, True), done.stdout
        host.run(["systemctl", "restart", "deepseek-agent"])
    host.run(["systemctl", "disable", unit])
    host.run(["systemctl", "reset-failed", unit])
    product.wait_told(host, told, told=False)


def test_a_missing_model_is_held_and_told(host: LabHost) -> None:
    product.start(host, "stop")
    hide_model(host)
    assert product.start(host).returncode == 1
    assert product.show(host, FRONT, "ExecMainStatus")["ExecMainStatus"] == "69"
    status = product.show(host, FRONT, "StatusText")["StatusText"]
    assert "there is no such directory" in status
    done = host.run(["deepseekctl", "status"], check=False)
    assert done.returncode == 1
    assert "model-missing" in done.stdout
    show_model(host)
    assert product.start(host).returncode == 0


def test_a_bad_setting_leaves_the_one_in_force(host: LabHost) -> None:
    host.write("/etc/deepseek-agent/agent.toml.d/bad.toml", "[limits]\nbackof = 1\n")
    checked = host.run(["deepseekctl", "config", "check"], check=False)
    assert checked.returncode == 78
    assert "bad.toml: limits.backof: unknown key" in checked.stderr
    refused = host.run(["systemctl", "reload", "deepseek-agent"], check=False)
    assert refused.returncode != 0
    product.wait_told(host, "configuration not in force")
    assert product.ask(host) is not None
    host.run(["rm", "/etc/deepseek-agent/agent.toml.d/bad.toml"])
    host.run(["systemctl", "reload", "deepseek-agent"])
    product.wait_told(host, "configuration not in force", told=False)
    assert host.run(["deepseekctl", "status"]).returncode == 0


def test_after_a_reboot_it_serves_again(host: LabHost) -> None:
    host.reboot()
    product.ask_until_answered(host)


def test_after_a_power_cut_it_serves_again(host: LabHost) -> None:
    host.power_cut()
    host.boot()
    host.wait_booted()
    product.ask_until_answered(host)


def test_devices_that_come_late_are_waited_for(host: LabHost) -> None:
    make_npus(host, at_boot=True, delay_s=15)
    host.reboot()  # returns when multi-user.target is reached: the boot did not wait
    product.wait_status(host, FRONT, "waiting: ")
    assert product.active_state(host, FRONT) == "activating"
    product.ask_until_answered(host)
    make_npus(host, at_boot=True)


def test_a_lost_npu_is_replaced_at_the_next_start(host: LabHost) -> None:
    product.start(host, "stop")
    remove_npus(host, [0])
    time.sleep(2)
    assert product.start(host).returncode == 0
    listed = host.run(["podman", "exec", CONTAINER, "sh", "-c", "ls /dev"]).stdout.split()
    assert "davinci1" in listed
    assert "davinci0" not in listed


def test_removal_leaves_nothing_running(host: LabHost) -> None:
    host.run(["dnf", "-y", "remove", "deepseek-agent"], timeout_s=240)
    assert product.leftovers(host) == []
    units = host.run(["systemctl", "list-units", "--all", "--plain", "--no-legend", "deepseek*"])
    assert [line for line in units.stdout.splitlines() if " active " in line] == []
    rendered = host.run(["sh", "-c", "ls /run/containers/systemd /run/systemd/system || true"])
    assert "deepseek" not in rendered.stdout
    model = "/var/lib/deepseek/models/DeepSeek-R1-Distill-Llama-8B/config.json"
    assert host.run(["test", "-e", model], check=False).returncode == 0
