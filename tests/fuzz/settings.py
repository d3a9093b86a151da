# SPDX-License-Identifier: MulanPSL-2.0
"""What an operator writes: agent.toml, a profile, a file about faults, a certificate.

Whatever is taken fits `values.Config`, and a profile that is taken renders to units that read back
as what is to run (tests/unit_files.py has systemd's rules).
"""

import ssl

import msgspec

from agent.certificate import expires_at
from agent.config.catalogue import read_catalogue
from agent.config.faults import FaultCatalogue
from agent.config.load import Paths, load
from agent.config.values import Config, Profile, RendererChoice
from agent.errors import ConfigError
from agent.plan.plan import Plan, build_plan
from agent.render.escape import argument, specifiers, unquoted, word
from agent.render.render import render
from agent.render.workload import build_workload
from tests.build import build_facts, build_host
from tests.fuzz.target import Target, folder, words_of
from tests.unit_files import (
    check_command,
    expand_specifiers,
    expand_variables,
    read_command,
    read_plain,
    read_quadlet,
    read_unit,
    split_words,
)

# How much longer than the text that it is about a message may be.
MESSAGE_LIMIT = 4000
QUADLET, PLAIN = build_host("5.4.2"), build_host("4.3.1", cgroup=1)


def _paths() -> Paths:
    paths = Paths(folder() / "etc", folder() / "share")
    for place in (paths.etc / "models.d", paths.etc / "faults.d", paths.share):
        place.mkdir(parents=True, exist_ok=True)
    return paths


def _load(name: str, data: bytes) -> Config | None:
    paths = _paths()
    file = paths.etc / name
    file.write_bytes(data)
    try:
        config = msgspec.convert(load(paths), Config)
    except ConfigError as error:
        check_words(error.failure.message)
        return None
    finally:
        file.unlink()
    for message in (
        *(one.message for one in config.broken),
        *(one.message for one in config.faults.broken),
    ):
        check_words(message)
    return config


def check_words(message: str) -> None:
    assert len(message) < MESSAGE_LIMIT, message


def check_settings(data: bytes) -> None:
    config = _load("agent.toml", data)
    if config is not None:
        assert msgspec.json.decode(msgspec.json.encode(config), type=Config) == config


def check_profile(data: bytes) -> None:
    config = _load("models.d/8b.toml", data)
    assert config is not None, "one profile disturbs nothing else"
    for profile in config.profiles:
        _check_units(profile)


def _check_units(profile: Profile) -> None:
    for host in (QUADLET, PLAIN):
        plan = build_plan(profile, build_facts(profile, host))
        if isinstance(plan, Plan):
            _check_unit(plan)


def _check_unit(plan: Plan) -> None:
    workload = build_workload(plan)
    unit = render(plan, RendererChoice.AUTO)
    sections = read_unit(unit.text)
    if "Container" in sections:
        (argv,) = read_quadlet(unit.text, "Exec")
        assert argv == list(workload.command)
    else:
        check_command(read_plain(unit.text), workload)


def check_escape(data: bytes) -> None:
    """A value that the configuration lets through, as a word and as an argument of a unit."""
    text = data.decode(errors="ignore")
    if not text or any(ord(char) < 32 or 127 <= ord(char) < 160 for char in text):
        return
    assert read_command(argument(text)) == [text]
    assert [expand_specifiers(one) for one in split_words(word(text))] == [text]
    assert expand_variables(expand_specifiers(unquoted(text))) == text
    assert expand_specifiers(specifiers(text)) == text


def check_faults(data: bytes) -> None:
    paths = _paths()
    file = paths.etc / "faults.d/1.toml"
    file.write_bytes(data)
    found = msgspec.convert(
        read_catalogue(paths.share / "faults.toml", file.parent), FaultCatalogue
    )
    file.unlink()
    for broken in found.broken:
        assert len(broken.message) < MESSAGE_LIMIT, broken


def check_certificate(data: bytes) -> None:
    """DER, or PEM. Where OpenSSL understands it too, both say the same."""
    is_pem = data.startswith(b"-----")
    pem = data.decode("ascii", "replace") if is_pem else ssl.DER_cert_to_PEM_cert(data)
    end = expires_at(pem)
    if end is None or pem.count("-----BEGIN") != 1:
        return
    file = folder() / "certificate.pem"
    file.write_text(pem, encoding="utf-8")
    try:
        # Private, and its only way to read a file; the tests of Python itself use it.
        told = ssl._ssl._test_decode_cert(str(file))["notAfter"]  # type: ignore[attr-defined]
        expected = ssl.cert_time_to_seconds(told)
    except (ssl.SSLError, ValueError):  # among them years of less than four digits
        return
    assert expected == end, (told, end)


SETTINGS = words_of("etc/agent.toml") | {"[registries.", "[[", "]]", '\\"\\"\\"', "1e999", "nan"}
PROFILE = words_of("etc/profile.toml", "etc/models.d/8b.toml") | {"[[mounts]]", "[environment]"}
TARGETS = (
    Target("settings", check_settings, words=SETTINGS),
    Target("profile", check_profile, words=PROFILE | {"%%", "$$", "\\\\u0007", "\\\\n"}),
    Target("escape", check_escape, 200),
    Target("certificate", check_certificate),
    Target("faults", check_faults, words=words_of("agent/config/catalogue.py")),
)
