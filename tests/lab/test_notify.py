# SPDX-License-Identifier: MulanPSL-2.0
"""The example of OnFailure= (etc/monitoring), set up as docs/monitoring.md says: somebody is told
when a model waits for a person, and nobody of what mends itself.
"""

import json
import time
from collections.abc import Iterator

import pytest

from . import product
from .faults import start_fresh, wait_event, wait_held
from .host import LabHost
from .models import hide_model, show_model
from .process import LabError
from .product import CONTAINER, FRONT

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(300)]

NOTIFY, TEST = "deepseek-notify@8b.service", "deepseek-notify@test.service"
SHIPPED = "/usr/share/deepseek-agent/monitoring"
SET_UP = f"""
set -e
cd {SHIPPED}
cp deepseek-notify@.service /etc/systemd/system/
install -D -m 644 onfailure.conf /etc/systemd/system/deepseek@.service.d/onfailure.conf
systemctl daemon-reload
"""
ENVIRONMENT = """NOTIFY_URL=http://127.0.0.1:8099/hook
NOTIFY_BODY={"msgtype": "text", "text": {"content": "%s"}}
NOTIFY_MAIL=ops@example.com
"""
POSTS, MAILS = "/var/tmp/posts", "/var/spool/mails"
# A line for each.
CHAT = f"""
import http.server
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"]))
        open("{POSTS}", "ab").write(text + b"\\n")
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", 8099), Hook).serve_forever()
"""
# The example's sandbox lets it write below /var/spool alone.
SENDMAIL = f"#!/bin/sh\ncat >> {MAILS}\n"
# So often that a model which is held is looked at several times within a test.
RECHECK = "[limits]\nrecheck_held_s = 10\n"
LOOKS_S = 25.0
TELLS_WITHIN_S = 15.0


@pytest.fixture(scope="module", autouse=True)
def _set_up(host: LabHost) -> None:
    host.write("/etc/deepseek-agent/agent.toml.d/recheck.toml", RECHECK)
    host.write("/usr/sbin/sendmail", SENDMAIL, 0o755)
    host.write("/etc/deepseek-agent/notify.env", ENVIRONMENT, 0o600)
    host.run(["sh", "-c", SET_UP])
    host.run(["systemd-run", "--unit=lab-chat", "python3", "-c", CHAT])
    product.start(host, "enable", "--now")


@pytest.fixture(autouse=True)
def _nobody_told_yet(host: LabHost) -> Iterator[None]:
    start_fresh(host)
    host.run(["rm", "-f", POSTS, MAILS])
    yield
    host.run(["deepseekctl", "release", "8b"], check=False)


def posts(host: LabHost) -> list[str]:
    """What came to the chat."""
    lines = host.run(["cat", POSTS], check=False).stdout.splitlines()
    return [json.loads(line)["text"]["content"] for line in lines]


def wait_post(host: LabHost) -> str:
    """The only one."""
    started = time.monotonic()
    while not posts(host):
        if time.monotonic() - started > TELLS_WITHIN_S:
            raise LabError(f"nobody was told\n{told_by_journal(host)}\n{product.describe(host)}")
        time.sleep(0.5)
    (words,) = posts(host)
    return words


def told_by_journal(host: LabHost, unit: str = NOTIFY) -> str:
    return host.run(["journalctl", "-b", "-u", unit, "--no-pager"]).stdout


def test_a_start_by_hand_is_a_test_by_chat_and_mail(host: LabHost) -> None:
    host.run(["systemctl", "start", TEST])
    assert wait_post(host) == f"{host.name}: this is a test"
    mail = host.read(MAILS)
    assert mail.startswith("To: ops@example.com\nSubject: ")
    assert mail.endswith("this is a test\n")


def test_a_held_model_is_told_once_with_the_reason(host: LabHost) -> None:
    hide_model(host)
    try:
        host.run(["deepseekctl", "restart", "8b"])
        wait_held(host, "model-missing")
        words = wait_post(host)
        assert "deepseek@8b does not serve: " in words
        assert "DeepSeek-R1-Distill-Llama-8B" in words
        print(f"\n{host.flavour}: {words}")
        time.sleep(LOOKS_S)
        assert posts(host) == [words]
    finally:
        show_model(host)


def test_a_hold_is_told(host: LabHost) -> None:
    host.run(["deepseekctl", "hold", "8b"])
    wait_held(host, "on-hold")
    assert "on hold" in wait_post(host)


def test_a_refused_start_is_told(host: LabHost) -> None:
    product.start(host, "stop")
    profile = "/etc/deepseek-agent/models.d/8b.toml"
    good = host.read(profile)
    try:
        host.write(profile, 'port = "2023"\n')
        host.run(["systemctl", "reload", "deepseek-agent.service"], check=False)
        assert product.start(host).returncode != 0
        assert product.show(host, FRONT, "ExecMainStatus")["ExecMainStatus"] == "78"
        words = wait_post(host)
        assert "8b.toml" in words
        print(f"\n{host.flavour}: {words}")
    finally:
        host.write(profile, good)
        host.run(["systemctl", "reload", "deepseek-agent.service"])


def test_an_engine_that_dies_and_comes_back_is_told_to_nobody(host: LabHost) -> None:
    before = product.container_started_at(host)
    host.run(["podman", "kill", CONTAINER])
    product.wait_serving(host, other_than=before)
    assert product.show(host, NOTIFY, "ActiveState")["ActiveState"] == "inactive"
    assert posts(host) == []


def test_a_crash_of_the_front_unit_is_told_to_nobody(host: LabHost) -> None:
    """systemd calls for help all the same; the agent has started it again by then."""
    before, since = product.container_started_at(host), time.time()
    host.run(["systemctl", "kill", "--signal=KILL", FRONT])
    wait_event(host, "front-revived", since)
    product.wait_state(host, FRONT, "active")
    product.wait_state(host, NOTIFY, "inactive")
    assert product.container_started_at(host) == before
    time.sleep(2)
    assert posts(host) == []
    print(f"\n{host.flavour}: {told_by_journal(host).splitlines()[-3:]}")


def test_a_stop_is_told_to_nobody(host: LabHost) -> None:
    product.start(host, "stop")
    time.sleep(2)
    assert posts(host) == []


def test_what_cannot_be_told_is_tried_again(host: LabHost) -> None:
    host.run(["systemctl", "stop", "lab-chat"], check=False)
    try:
        failed = host.run(["systemctl", "start", TEST], check=False)
        assert failed.returncode != 0
        state = product.show(host, TEST, "ActiveState", "SubState")
        assert state == {"ActiveState": "activating", "SubState": "auto-restart"}
        assert "cannot tell anybody" in told_by_journal(host, TEST)
    finally:
        host.run(["systemctl", "stop", TEST])
        host.run(["systemd-run", "--unit=lab-chat", "python3", "-c", CHAT])
