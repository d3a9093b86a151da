# SPDX-License-Identifier: MulanPSL-2.0
"""Settings on real hosts: what is rendered without the agent, what a wrong setting looks like to a
person, an engine with an API key, and one with TLS. `pytest -s` shows the words.
"""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.engine.certificate import make_certificate

from . import product
from .host import LabHost
from .product import CONTAINER, ENGINE, FRONT, SMALLER_NEEDS

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

PROFILE = "/etc/deepseek-agent/models.d/8b.toml"
SETTINGS = "/etc/deepseek-agent/agent.toml.d/test.toml"
AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
HELD, PERSON = "69", "78"


@pytest.fixture(autouse=True)
def _as_shipped(host: LabHost) -> Iterator[None]:
    """Each test begins with nothing started, and leaves the shipped settings behind."""
    host.run(["systemctl", "start", "deepseek-agent"])
    product.start(host, "stop")
    yield
    host.run(["systemctl", "stop", "deepseek@*"], check=False)
    host.run(["rm", "-rf", SETTINGS, "/etc/deepseek-agent/models.d/twin.toml"])
    configure(host, "")
    host.run(["systemctl", "reset-failed", "deepseek*"], check=False)


def configure(host: LabHost, text: str) -> None:
    """The profile of 8b as the test wants it; it is in force when this returns."""
    host.write(PROFILE, f"{text}\n{SMALLER_NEEDS}" if "[needs]" not in text else text)
    reload(host)


def reload(host: LabHost) -> None:
    host.run(["systemctl", "reload", "deepseek-agent"])


def words(host: LabHost, unit: str = FRONT) -> str:
    """What `systemctl status` shows below the unit's state."""
    return product.show(host, unit, "StatusText")["StatusText"]


# --- render and facts ----------------------------------------------------------------------------


def test_render_is_what_is_installed(host: LabHost) -> None:
    rendered = host.run(["deepseekctl", "render", "8b"]).stdout
    assert product.start(host).returncode == 0
    path = rendered.partition("\n")[0].removeprefix("# ")
    assert host.read(path) == rendered.partition("\n")[2]
    # Also beside the running one: it does not stand in its own way.
    assert host.run(["deepseekctl", "render", "8b"]).stdout == rendered


def test_render_needs_no_root_and_no_agent(host: LabHost) -> None:
    """Without root nobody tells the image's id, without npud and agent nobody the NPUs."""
    rendered = host.run(["deepseekctl", "render", "8b"]).stdout
    seen = host.run([*AS_NOBODY, "deepseekctl", "render", "8b"])
    assert "Podman was not asked" in seen.stderr
    image = product.image_id(host)
    reference = "quay.io/ascend/vllm-ascend:v0.18.0-openeuler"
    assert seen.stdout == rendered.replace(image, reference)
    facts = host.run(["deepseekctl", "facts", "--json"]).stdout
    host.run(["systemctl", "stop", "deepseek-agent.socket", "deepseek-agent", "deepseek-npud"])
    try:
        none = host.run([*AS_NOBODY, "deepseekctl", "render", "8b"], check=False)
        assert (none.returncode, none.stdout) == (75, "")
        assert "[npud-silent]" in none.stderr
        given = [*AS_NOBODY, "deepseekctl", "render", "8b", "--facts=-"]
        assert host.run(given, input=facts).stdout == rendered
        example = host.run([*AS_NOBODY, "deepseekctl", "render", "7b", "--facts=atlas-800i-a2"])
        assert "deepseek-vllm-7b" in example.stdout
    finally:
        host.run(["systemctl", "start", "deepseek-npud", "deepseek-agent.socket"])
        host.run(["systemctl", "start", "deepseek-agent"])


def test_a_running_neighbor_is_planned_around(host: LabHost) -> None:
    """The agent and `render` agree about the NPUs that the other one has."""
    host.write("/etc/deepseek-agent/models.d/twin.toml", TWIN.replace("2023", "2030"))
    reload(host)
    assert product.start(host).returncode == 0
    rendered = host.run(["deepseekctl", "render", "twin"]).stdout
    assert "/dev/davinci1" in rendered
    assert "/dev/davinci0" not in rendered
    done = host.run(["systemctl", "start", "deepseek@twin"], timeout_s=60)
    assert done.returncode == 0
    path = rendered.partition("\n")[0].removeprefix("# ")
    assert host.read(path) == rendered.partition("\n")[2]


def test_file_systems_are_mounted_before_and_unmounted_after(host: LabHost) -> None:
    folder = '/srv/it\'s 100% "$x"'
    host.run(["mkdir", "-p", folder])
    source = json.dumps(folder)
    configure(host, f'mounts = [{{source = {source}, target = "/data"}}]')
    assert product.start(host).returncode == 0
    known = product.show(host, ENGINE, "RequiresMountsFor")["RequiresMountsFor"]
    words = shlex.split(known.replace("\\$", "$"))  # shlex knows no escaped dollar
    assert {folder, "/var/lib/deepseek/models/DeepSeek-R1-Distill-Llama-8B"} <= set(words)


# --- wrong settings ------------------------------------------------------------------------------

TWIN = """
served_name = "twin"
model = "DeepSeek-R1-Distill-Llama-8B"
port = 2023
[needs]
cpu_cores = 1
ram_gib = 2
disk_gib = 1
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 2023", 'prot: unknown key; did you mean "port"?'),
        ('port = "2023"', "port: it must be a whole number, without quotes"),
        ("port = 99999", "port: it must be less than or equal to 65535"),
        ('listen = "0.0.0.0"', "listen: this opens the engine to the network, and there is no API"),
        ("port = ", "cannot read /etc/deepseek-agent/models.d/8b.toml: Invalid value"),
        ('[vllm]\ndtype = "int4"', "vllm.dtype: it must be 'float16', 'bfloat16'"),
        ('model = "../secret"', 'model: the path must name a file or folder, without "."'),
    ],
)
def test_config_check_names_file_and_key(host: LabHost, text: str, words: str) -> None:
    configure(host, f"{text}\n")
    done = host.run(["deepseekctl", "config", "check"], check=False)
    print(f"\n{text!r}: exit {done.returncode}: {done.stderr.strip()}")
    assert done.returncode == 78
    assert PROFILE in done.stderr
    assert words in done.stderr
    started = product.start(host)
    assert (started.returncode, status(host)) == (1, PERSON)


def test_a_file_that_cannot_be_read(host: LabHost) -> None:
    host.write(SETTINGS, 'mode = "act"\n', mode=0o600)
    done = host.run([*AS_NOBODY, "deepseekctl", "config", "check"], check=False)
    print(f"\nunreadable: exit {done.returncode}: {done.stderr.strip()}")
    assert done.returncode == 78
    assert f"cannot read {SETTINGS}: Permission denied" in done.stderr
    host.run(["chmod", "700", "/etc/deepseek-agent/agent.toml.d"])
    done = host.run([*AS_NOBODY, "deepseekctl", "config", "check"], check=False)
    assert done.returncode == 78  # a folder that cannot be read is not an empty one
    host.run(["chmod", "755", "/etc/deepseek-agent/agent.toml.d"])


def status(host: LabHost, unit: str = FRONT) -> str:
    return product.show(host, unit, "ExecMainStatus")["ExecMainStatus"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('model = "Nope"', "cannot serve /var/lib/deepseek/models/Nope: there is no such"),
        ('image = "localhost/none:1"', "cannot run localhost/none:1: the image is not in"),
        ("npus = [0, 9]", "cannot use NPU 9: this host has [0, 1, 2, 3, 4, 5, 6, 7]"),
        ('products = ["duo"]', "cannot use the NPUs of this host (910B"),
        ('api_key_file = "/etc/nope"', "cannot use api_key_file /etc/nope: no such file"),
        (
            "[needs]\ncpu_cores = 1\nram_gib = 2\nnpu_memory_gib = 2000\n",
            "cannot place the model: it needs 2048000 MiB of NPU memory",
        ),
        (
            "[needs]\ncpu_cores = 1\nram_gib = 60000\n",
            "cannot serve 8b: it needs 60000 GiB of RAM, this host has",
        ),
    ],
)
def test_what_cannot_be_served_is_said_at_once(host: LabHost, text: str, told: str) -> None:
    configure(host, text)
    started = product.start(host)
    print(f"\n{text!r}: {started.stderr.strip().splitlines()[0]} | {words(host)}")
    assert started.returncode == 1
    assert status(host) == HELD
    assert told in words(host)
    preview = host.run(["deepseekctl", "render", "8b"], check=False)
    assert preview.returncode == int(HELD)
    assert told in preview.stderr


def test_what_is_held_can_be_started_again_and_again(host: LabHost) -> None:
    """Not "start request repeated too quickly": that would end the wish."""
    configure(host, 'model = "Nope"')
    for _ in range(7):
        assert product.start(host).returncode == 1
        assert (status(host), product.show(host, FRONT, "Result")["Result"]) == (HELD, "exit-code")


def test_a_port_that_somebody_else_has(host: LabHost) -> None:
    """It may be a matter of moments; whoever holds it for a minute is told about by a failed unit
    (tests/unit/test_policy.py)."""
    squatter = "import socket,time\ns=socket.create_server(('0.0.0.0', 2023))\ntime.sleep(600)"
    host.run(["systemd-run", "--unit=squatter", "python3", "-c", squatter])
    host.run(["sleep", "0.5"])
    try:
        product.start(host, "start", "--no-block")
        product.wait_status(host, FRONT, "on port 2023: something else listens on 0.0.0.0")
        print(f"\nport in use: {words(host)}")
        preview = host.run(["deepseekctl", "render", "8b"], check=False)
        assert (preview.returncode, "[port-in-use]" in preview.stderr) == (75, True)
    finally:
        host.run(["systemctl", "stop", "squatter"])
    product.wait_state(host, FRONT, "active", limit_s=60)
    assert product.ask(host) is not None


def test_a_profile_that_breaks_takes_nothing_from_what_runs(host: LabHost) -> None:
    """As an upgrade does that refuses what was allowed before. The agent starts anew meanwhile."""
    assert product.start(host).returncode == 0
    configure(host, 'listen = "0.0.0.0"')
    host.run(["systemctl", "restart", "deepseek-agent"])
    before = product.container_started_at(host)
    done = host.run(["deepseekctl", "status"], check=False)
    assert done.returncode == 1
    assert "profile not usable: 8b: cannot use" in done.stdout
    host.run(["podman", "kill", "--signal=KILL", CONTAINER])
    product.ask_until_answered(host, limit_s=30)
    assert product.container_started_at(host) != before
    assert product.active_state(host, FRONT) == "active"
    assert product.start(host, "restart").returncode == 1  # a person is told what is wrong
    assert status(host) == PERSON


@pytest.mark.timeout(60)
def test_a_key_file_that_is_a_pipe_is_not_waited_for(host: LabHost) -> None:
    restarts = product.show(host, "deepseek-agent", "NRestarts")
    host.run(["mkfifo", "-m", "600", "/etc/deepseek-agent/pipe"])
    configure(host, 'api_key_file = "/etc/deepseek-agent/pipe"')
    assert product.start(host).returncode == 1
    assert "api_key_file /etc/deepseek-agent/pipe: it is no regular file" in words(host)
    assert product.show(host, "deepseek-agent", "NRestarts") == restarts
    host.run(["rm", "/etc/deepseek-agent/pipe"])


def test_two_instances_on_one_port(host: LabHost) -> None:
    host.write("/etc/deepseek-agent/models.d/twin.toml", TWIN)
    reload(host)
    check = host.run(["deepseekctl", "config", "check"])
    print(f"\n{check.stdout.strip()}")
    assert "note: 8b and twin use the same port 2023" in check.stdout
    assert product.start(host).returncode == 0
    twin = "deepseek@twin.service"
    second = host.run(["systemctl", "start", twin], check=False)
    print(f"two on one port: {words(host, twin)}")
    assert (second.returncode, status(host, twin)) == (1, HELD)
    assert "cannot serve twin on port 2023: deepseek@8b has it" in words(host, twin)
    assert product.ask(host) is not None  # the first one is not disturbed


@pytest.mark.parametrize("name", ["70b", "..", "8b.service", "8B", "a_b", "-x", "x" * 33, "8b:1"])
def test_names_that_are_no_instance(host: LabHost, name: str) -> None:
    unit = f"deepseek@{name}.service"
    done = host.run(["systemctl", "start", "--", unit], check=False)
    print(f"\n{name!r}: {done.stderr.strip().splitlines()[0]} | {words(host, unit)}")
    assert done.returncode == 1
    assert status(host, unit) == PERSON
    assert "there is no profile of that name" in words(host, unit)
    assert host.run(["deepseekctl", "render", "--", name], check=False).returncode == 78
    host.run(["systemctl", "reset-failed", unit], check=False)


# --- the API key ---------------------------------------------------------------------------------

KEY = "sk-very.secret~key_0123456789"
KEY_FILE = "/etc/deepseek-agent/8b.key"
OPEN = f'listen = "0.0.0.0"\napi_key_file = "{KEY_FILE}"'
ASK = 'curl --silent --max-time 5 -o /dev/null -w "%{http_code}" '
MODELS = "http://127.0.0.1:2023/v1/models"


def code(host: LabHost, *options: str, url: str = MODELS) -> str:
    return host.run(["sh", "-c", ASK + " ".join((*options, url))], check=False).stdout


def test_open_to_the_network_with_a_key(host: LabHost) -> None:
    host.write(KEY_FILE, KEY + "\n", mode=0o600)
    configure(host, OPEN)
    done = product.start(host)
    assert done.returncode == 0, done.stderr  # the agent's own canary has the key
    assert "0.0.0.0:2023" in host.run(["ss", "-Hltn", "sport = :2023"]).stdout
    assert code(host) == "401"
    assert code(host, "-H 'Authorization: Bearer wrong'") == "401"
    assert code(host, f"-H 'Authorization: Bearer {KEY}'") == "200"
    assert "openEuler" in host.run(["deepseekctl", "chat", "8b", "openEuler?"]).stdout
    assert host.run([*AS_NOBODY, "deepseekctl", "render", "8b"]).returncode == 0
    refused = host.run([*AS_NOBODY, "deepseekctl", "chat", "8b", "x"], check=False)
    assert refused.returncode == 4
    assert "cannot read the API key of 8b" in refused.stderr
    assert_secret(host)
    host.run(["systemctl", "restart", "deepseek-agent"])  # adopts it, and asks with the key
    product.wait_serving(host)
    before = product.container_started_at(host)
    host.run(["deepseekctl", "restart", "8b"])
    product.wait_serving(host, other_than=before)
    assert_secret(host)


def assert_secret(host: LabHost) -> None:
    """Nobody but root finds the key: not in ps, units, status, files, or Podman."""
    mark = "sk-very[.]secret"  # a pattern that does not find itself in the command that looks
    search = (
        f"ps -eww -o args | grep -c '{mark}'; "
        f"deepseekctl status --json | grep -c '{mark}'; "
        f"systemctl show {ENGINE} {FRONT} | grep -c '{mark}'; "
        f"systemctl cat {ENGINE} | grep -c '{mark}'; "
        f"cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | grep -ac '{mark}'; "
        f"podman inspect {CONTAINER} 2>/dev/null | grep -c '{mark}'; "
        f"grep -rl '{mark}' /run /etc /var /tmp /usr/lib/systemd 2>/dev/null | wc -l"
    )
    found = host.run([*AS_NOBODY, "sh", "-c", search], check=False, timeout_s=120)
    assert found.stdout.split() == ["0"] * 7, found.stdout
    journal = f"journalctl --no-pager | grep -c '{mark}'"
    assert host.run(["sh", "-c", journal], check=False).stdout.strip() == "0"
    for path in (KEY_FILE, "/run/deepseek-agent/env/8b.env"):
        assert host.run(["stat", "-c", "%a %U", path]).stdout.split() == ["600", "root"]


def test_a_key_that_others_can_read_is_refused(host: LabHost) -> None:
    host.write(KEY_FILE, KEY + "\n", mode=0o644)
    configure(host, OPEN)
    assert product.start(host).returncode == 1
    print(f"\n{words(host)}")
    assert "others can read it (mode 0644); chmod 600" in words(host)
    host.run(["chmod", "600", KEY_FILE])
    host.write(KEY_FILE, "too short\n", mode=0o600)
    assert product.start(host).returncode == 1
    print(words(host))
    assert "it must hold one line of 16 to 512" in words(host)
    assert "too short" not in words(host)
    assert host.run(["deepseekctl", "render", "8b"], check=False).returncode == int(HELD)


def test_open_without_a_key_in_so_many_words(host: LabHost) -> None:
    configure(host, 'listen = "0.0.0.0"\nopen_without_api_key = true')
    assert product.start(host).returncode == 0
    assert code(host) == "200"
    assert product.ask(host) is not None


# --- TLS -----------------------------------------------------------------------------------------


def test_tls(host: LabHost, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    host.copy_in(certificate.certfile, "/etc/pki/engine.pem")
    host.copy_in(certificate.keyfile, "/etc/pki/engine.key")
    host.run(["chmod", "600", "/etc/pki/engine.key"])
    host.write(KEY_FILE, KEY + "\n", mode=0o600)
    paths = 'tls_certificate = "/etc/pki/engine.pem"\ntls_key = "/etc/pki/engine.key"'
    configure(host, f"{OPEN}\n{paths}")
    done = product.start(host)
    assert done.returncode == 0, f"{done.stderr}{product.describe(host)}"
    secure = "https://localhost:2023/v1/models"
    trust = "--cacert /etc/pki/engine.pem"
    assert code(host, trust, f"-H 'Authorization: Bearer {KEY}'", url=secure) == "200"
    assert code(host, trust, url=secure) == "401"
    assert code(host) == "000"  # no plain HTTP
    view = json.loads(host.run(["deepseekctl", "status", "--json"]).stdout)["instances"]
    (endpoint,) = [one["endpoint"] for one in view if one["name"] == "8b"]
    assert endpoint == "https://127.0.0.1:2023"
    assert "openEuler" in host.run(["deepseekctl", "chat", "8b", "openEuler?"]).stdout
    # A certificate that is renewed is taken at the next start; until then nothing is ill.
    (tmp_path / "renewed").mkdir()
    renewed = make_certificate(tmp_path / "renewed")
    host.copy_in(renewed.certfile, "/etc/pki/engine.pem")
    host.copy_in(renewed.keyfile, "/etc/pki/engine.key")
    host.run(["chmod", "600", "/etc/pki/engine.key"])
    before = product.container_started_at(host)
    host.run(["systemctl", "restart", "deepseek-agent"])
    product.wait_serving(host)
    assert product.container_started_at(host) == before
    assert "openEuler" in host.run(["deepseekctl", "chat", "8b", "openEuler?"]).stdout
