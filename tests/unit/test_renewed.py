# SPDX-License-Identifier: MulanPSL-2.0
"""The files that an engine has read at its start: renewed, damaged, gone."""

import time
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from agent.action.renewed import certificate_end, find_renewed, may_renew
from agent.action.running import Running
from agent.control.events import EventLog
from agent.control.messages import RenewalsSeen
from agent.control.record import Record, Renewal
from agent.control.renewals import Renewals
from agent.control.tasks import Tasks
from agent.model import Phase
from agent.policy.state import InstanceState
from agent.render.workload import certificate_copy, key_file, key_text
from tests.build import build_profile
from tests.fakes.engine.certificate import DAYS, make_certificate
from tests.fakes.events import FakeEventKeeper
from tests.scenario.ports import RootedFiles

KEY, CERTIFICATE = PurePosixPath("/etc/tls/api.key"), PurePosixPath("/etc/tls/certificate.pem")
PROFILE = build_profile(
    api_key_file=str(KEY), tls_certificate=str(CERTIFICATE), tls_key="/etc/tls/key.pem"
)
RUNNING = Running(PROFILE, (0,), "", "")
SECRET, OTHER = "0123456789abcdef", "fedcba9876543210"
OLD, NEW = (
    f"-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n" for name in ("old", "new")
)


@pytest.fixture
def files(tmp_path: Path) -> RootedFiles:
    """As they were at the start."""
    files = RootedFiles(tmp_path)
    files.write(KEY, f"{SECRET}\n", private=True)
    files.write(CERTIFICATE, OLD)
    files.write(PurePosixPath(key_file("8b")), key_text(SECRET), private=True)
    files.write(PurePosixPath(certificate_copy("8b")), OLD)
    return files


def test_nothing_is_new(files: RootedFiles) -> None:
    assert find_renewed(RUNNING, files) == ()
    files.write(KEY, SECRET)  # without the line's end: the same key
    assert find_renewed(RUNNING, files, (str(KEY), str(CERTIFICATE))) == ()


def test_one_and_both_are_new(files: RootedFiles) -> None:
    files.write(CERTIFICATE, NEW)
    assert find_renewed(RUNNING, files) == (str(CERTIFICATE),)
    files.write(KEY, OTHER)
    assert find_renewed(RUNNING, files) == (str(KEY), str(CERTIFICATE))


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nhalf", None])
@pytest.mark.parametrize("before", [(), (str(CERTIFICATE),)])
def test_a_certificate_that_cannot_be_told(
    files: RootedFiles, text: str | None, before: tuple[str, ...]
) -> None:
    """It is as it was: a restart with half a certificate would end what works."""
    if text is None:
        files.remove(CERTIFICATE)
    else:
        files.write(CERTIFICATE, text)
    assert find_renewed(RUNNING, files, before) == before


@pytest.mark.parametrize("text", ["", "short", "two words of a key", None])
@pytest.mark.parametrize("before", [(), (str(KEY),)])
def test_a_key_that_cannot_be_told(
    files: RootedFiles, text: str | None, before: tuple[str, ...]
) -> None:
    if text is None:
        files.remove(KEY)
    else:
        files.write(KEY, text)
    assert find_renewed(RUNNING, files, before) == before


@pytest.mark.parametrize("copy", [key_file("8b"), certificate_copy("8b")])
def test_what_the_engine_was_given_is_not_known(files: RootedFiles, copy: str) -> None:
    """Not that it has none."""
    files.remove(PurePosixPath(copy))
    assert find_renewed(RUNNING, files) == ()


def test_an_engine_without_either(files: RootedFiles) -> None:
    plain = Running(build_profile(), (0,), "", "")
    assert may_renew(RUNNING)
    assert not may_renew(plain)
    assert find_renewed(plain, files) == ()


# --- the end of a certificate --------------------------------------------------------------------

DAY = 86_400.0
END = 1_800_000_000.0  # 2027-01-15 08:00 UTC


def test_its_end_is_that_of_the_copy(files: RootedFiles, tmp_path: Path) -> None:
    assert certificate_end(RUNNING, files) is None  # nobody can read it
    made = make_certificate(tmp_path).certfile.read_text(encoding="ascii")
    files.write(CERTIFICATE, made)
    assert certificate_end(RUNNING, files) is None
    files.write(PurePosixPath(certificate_copy("8b")), made)
    end = certificate_end(RUNNING, files)
    assert end == pytest.approx(time.time() + DAYS * DAY, abs=60)
    assert certificate_end(Running(build_profile(), (0,), "", ""), files) is None


@pytest.mark.parametrize(
    ("renewed", "hint"),
    [
        ((), f"renew {CERTIFICATE}, then: deepseekctl restart 8b"),
        ((str(CERTIFICATE),), f"{CERTIFICATE} is a newer one: deepseekctl restart 8b"),
    ],
)
def test_the_end_is_told_when_it_is_near_and_when_it_is_over(
    files: RootedFiles, monkeypatch: pytest.MonkeyPatch, renewed: tuple[str, ...], hint: str
) -> None:
    events = EventLog(FakeEventKeeper())
    renewals = Renewals(files, lambda seen: None, Tasks(lambda error: None), events)
    record = Record(PROFILE, replace(InstanceState(), phase=Phase.SERVING), 0.0, running=RUNNING)
    record.renewal = Renewal(RUNNING, renewed, expires_at=END)
    seen = RenewalsSeen("8b", RUNNING, renewed)
    for left_days, count in ((90, 0), (7.1, 0), (6.9, 1), (1, 1), (-1, 2), (-30, 2)):
        monkeypatch.setattr(time, "time", lambda at=END - left_days * DAY: at)
        renewals.take(record, seen)
        assert [one.kind for one in events.latest] == ["certificate-expires"] * count
    told = "clients refuse the certificate that the engine shows from 2027-01-15 08:00 UTC on; "
    assert {one.message for one in events.latest} == {told + hint}
    assert record.certificate_end == END
    record.running = replace(RUNNING)  # another engine
    assert record.certificate_end is None
