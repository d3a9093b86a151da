# SPDX-License-Identifier: MulanPSL-2.0
"""What the configuration says arrives in the engine unchanged, through all that quotes on the way:
TOML, the unit file, Podman's quadlet generator, systemd, Podman, the image's entry point.

The engine of these hosts is tests/fakes/echo_engine, which tells what reached it. Values travel
together; only when something is lost on the way are they halved until it is known which.
With DEEPSEEK_VALUES_TABLE=FILE the table of values and where they arrived is written to a file.
"""

import itertools
import json
import os
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from . import product
from .host import LabHost
from .images import ECHO_ENGINE, add_engine_image
from .models import MODEL_8B, MODELS_DIRECTORY, add_model
from .process import LabError
from .rootfs import Flavour

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

PROFILE = "/etc/deepseek-agent/models.d/8b.toml"
SOURCES = "/srv/odd"
MODEL_FILES = [
    *("config.json", "generation_config.json", "model.safetensors"),
    *("tokenizer.json", "tokenizer_config.json"),
]
# The last one of our own flags; the operator's arguments come after it.
LAST_FLAG = "--reasoning-parser=deepseek_r1"
# The echo engine is up within two seconds. One that cannot start is tried again and again.
RESTART_LIMIT_S = 30
TAKEN_LIMIT_S = 15

# --- values --------------------------------------------------------------------------------------

GROUPS: dict[str, tuple[str, ...]] = {
    "blanks": (" leading", "trailing ", "two  spaces", " ", "   "),
    "wide blanks": ("\u00a0", "\u3000a\u3000", "a\u2009", "a\u1680b", "\u202f"),
    "quotes": ('"', "'", "it's", 'say "hi"', '"quoted"', "'quoted'", "\"'\"", "“curly”", "''"),
    "backslashes": ("\\", "\\\\", "end\\", "end \\ ", "C\\new\\table", "\\x41\\u0041", '\\"'),
    "percents": ("%", "%%", "%h", "%%h", "100%", "%n %t %i", "%z", "%20"),
    "dollars": ("$", "$$", "$$$", "$HOME", "${PATH}", "$$HOME", "$1", "$(id)", "a$", "$'x'"),
    "shell": ("`id`", "~", "~root", "&", "&&", "a|b", "<in", ">out", "(x)", "!", "!!", "^"),
    "patterns": ("*", "?", "[a-z]", "*?[]", "{}", "{a,b}", "{1..3}", "*?[!x]"),
    "marks": ("#", "# no comment", "a#b", "a;b", "a ; b", "; x", ",", "a,b", "ro", "true", "null"),
    "pairs": ("=", "a=b", "k=v=w", '{"k" = [1, null]}', "[Service]", "Image=x", "--env=A=b"),
    "starts": ("-", "--", "-v", "--help", "-x", "@x", "+x", "!x", "|x", "\\-x", "-@x", ".hidden"),
    "letters": ("模型 ✓", "🚀", "👩‍🔬", "e\u0301", "é", "\u0301", "ß", "עברית", "\u202eleft"),
    "rare": ("a\u200bb", "\ufeffbom", "soft\u00adhyphen", "\ue000", "\U0010fffd", "\u0378"),
}  # fmt: skip
LONG_NAME = "x" * 255
ODD = (*itertools.chain.from_iterable(GROUPS.values()), LONG_NAME)
# No names of folders: a colon is refused there, and a file system has its own rules.
NO_FOLDERS = (
    *(":", "a:b", "http://host:80/?a=1&b=%20", '{"k": ["v", 1.5, {}]}', "/", "a/b", ".", ".."),
    *("模" * 3_500, 'long "$x" %h \\ \'' * 640, "y" * 65_536),
)
NO_ARGUMENTS = ("", ";")
# Those of Unicode that never are characters; systemd ignores a line that has one.
NONCHARACTERS = [
    *map(chr, range(0xFDD0, 0xFDF0)),
    *(chr(plane * 0x10000 + low) for plane in range(17) for low in (0xFFFE, 0xFFFF)),
]

# --- profiles ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mount:
    source: str
    target: str
    read_only: bool
    content: list[str] | str  # names in the folder, or the file's text


@dataclass(frozen=True, slots=True)
class Profile:
    """What is put into the profile, beside what the lab needs."""

    served_name: str = "m"
    model: str = MODEL_8B
    arguments: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    mounts: Sequence[Mount] = ()

    @property
    def model_target(self) -> str:
        return f"/models/{self.model.rpartition('/')[2]}"


Build = Callable[[Sequence[str]], Profile]


def with_arguments(values: Sequence[str]) -> Profile:
    return Profile(arguments=values)


def with_variables(values: Sequence[str]) -> Profile:
    return Profile(variables={f"ODD_{index}": value for index, value in enumerate(values)})


def with_folders(names: Sequence[str]) -> Profile:
    """Each of these is mounted twice: to be read, and to be written."""
    targets = {"/data/read": True, "/data/write": False}
    return Profile(
        mounts=[
            Mount(f"{SOURCES}/{name}", f"{target}/{name}", read_only, [name])
            for target, read_only in targets.items()
            for name in names
        ]
    )


def toml_string(value: str) -> str:
    """A basic string of TOML: what can be printed as it is, everything else by its number."""
    return '"' + "".join(map(_toml_char, value)) + '"'


def _toml_char(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if char.isprintable():
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def toml_profile(profile: Profile) -> str:
    """The operator's file. That it says what is meant is checked here."""
    arguments = ", ".join(map(toml_string, profile.arguments))
    lines = [
        f"served_name = {toml_string(profile.served_name)}",
        f"model = {toml_string(profile.model)}",
        product.SMALLER_NEEDS,
        f"[vllm]\nextra_args = [{arguments}]",
        "[environment]",
        *(f"{name} = {toml_string(value)}" for name, value in profile.variables.items()),
    ]
    for mount in profile.mounts:
        lines += ["[[mounts]]", f"source = {toml_string(mount.source)}"]
        lines += [f"target = {toml_string(mount.target)}"]
        lines += [f"read_only = {str(mount.read_only).lower()}"]
    text = "\n".join(lines) + "\n"
    check_toml(text, profile)
    return text


def check_toml(text: str, profile: Profile) -> None:
    said = tomllib.loads(text)
    assert (said["served_name"], said["model"]) == (profile.served_name, profile.model)
    assert said["vllm"]["extra_args"] == list(profile.arguments)
    assert said["environment"] == dict(profile.variables)
    assert said.get("mounts", []) == [
        {"source": mount.source, "target": mount.target, "read_only": mount.read_only}
        for mount in profile.mounts
    ]


# --- there and back ------------------------------------------------------------------------------

serial = itertools.count(1)


class SeenMount(msgspec.Struct):
    read_only: bool
    entries: list[str] | str


class Seen(msgspec.Struct):
    """The answer of the echo engine."""

    argv: list[str]
    environ: dict[str, str]
    mounts: dict[str, SeenMount]


def look(host: LabHost) -> Seen:
    curl = ["curl", "--silent", "--fail", "--max-time", "5", "http://127.0.0.1:2023/seen"]
    # json takes lone surrogates, which binary files in the container come out as.
    return msgspec.convert(json.loads(host.run(curl).stdout), Seen)


def serve(host: LabHost, profile: Profile) -> list[str]:
    """Writes the profile, reloads, restarts; what arrived otherwise than it was written."""
    # The number makes it another name each time: it tells that the agent has read the file.
    profile = replace(profile, served_name=f"{next(serial)} {profile.served_name}")
    put_on_disk(host, profile)
    reload(host)
    wait_until(host, lambda status: is_known(status, profile.served_name))
    # More often than systemd lets a person do it (StartLimitBurst=).
    host.run(["systemctl", "reset-failed", product.FRONT], check=False)
    restart = ["timeout", str(RESTART_LIMIT_S), "systemctl", "restart", product.FRONT]
    done = host.run(restart, check=False)
    if done.returncode != 0:
        return [f"not started: {done.stderr}{product.describe(host)}"]
    return list(differences(look(host), profile))


def put_on_disk(host: LabHost, profile: Profile) -> None:
    """The folders and files that it names, then the profile itself."""
    for mount in profile.mounts:
        if isinstance(mount.content, str):
            host.write(mount.source, mount.content)
    folders = [mount for mount in profile.mounts if isinstance(mount.content, list)]
    if folders:
        host.run(["mkdir", "-p", *(mount.source for mount in folders)])
        host.run(["touch", *(f"{one.source}/{name}" for one in folders for name in one.content)])
    if profile.model != MODEL_8B:
        add_model(host, profile.model)
    host.write(PROFILE, toml_profile(profile))


def reload(host: LabHost) -> None:
    host.run(["systemctl", "reload", "deepseek-agent"])


def is_known(status: dict[str, object], served_name: str) -> bool:
    """Whether the agent has read the profile; what runs is shown as it was started."""
    instances = status["instances"]
    assert isinstance(instances, list)
    shown = next(one for one in instances if one["name"] == "8b")
    return shown["restart_pending"] is True or shown["served_name"] == served_name


def wait_until(host: LabHost, true_of: Callable[[dict[str, object]], object]) -> None:
    """Until the agent's status is so."""
    deadline = time.monotonic() + TAKEN_LIMIT_S
    while True:
        done = host.run(["deepseekctl", "status", "--json"], check=False)
        if true_of(json.loads(done.stdout)):
            return
        if time.monotonic() > deadline:
            raise LabError(f"the agent has not read the profile\n{product.describe(host)}")
        time.sleep(product.ANSWER_EVERY_S)


def differences(seen: Seen, profile: Profile) -> Iterator[str]:
    start = ["serve", profile.model_target, f"--served-model-name={profile.served_name}"]
    yield from different("start of the command", seen.argv[: len(start)], start)
    after = seen.argv.index(LAST_FLAG) + 1
    yield from different("arguments", seen.argv[after:], list(profile.arguments))
    for name, value in profile.variables.items():
        yield from different(name, seen.environ.get(name), value)
    model = Mount(f"{MODELS_DIRECTORY}/{profile.model}", profile.model_target, True, MODEL_FILES)
    for mount in (model, *profile.mounts):
        wanted = SeenMount(mount.read_only, mount.content)
        yield from different(f"mount {mount.target!r}", seen.mounts.get(mount.target), wanted)


def different(what: str, had: object, wanted: object) -> Iterator[str]:
    if had != wanted:
        yield f"{what}: {had!r} arrived, not {wanted!r}"


def find_lost(host: LabHost, build: Build, values: Sequence[str]) -> dict[str, list[str]]:
    """Value -> what became of it, of those that did not arrive."""
    problems = serve(host, build(values))
    if not problems:
        return {}
    if len(values) == 1:
        return {values[0]: problems}
    half = len(values) // 2
    found = find_lost(host, build, values[:half]) | find_lost(host, build, values[half:])
    return found or {repr(values): problems}  # only together


# --- the table -----------------------------------------------------------------------------------

SHOWN_LENGTH = 40


@dataclass
class Table:
    """Where each value arrived, and where it is refused."""

    arrived: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    refused: dict[str, Sequence[str]] = field(default_factory=dict)

    def add(self, kind: str, flavour: Flavour, values: Sequence[str], lost: Iterable[str]) -> None:
        for value in values:
            cell = self.arrived.setdefault(value, {}).setdefault(kind, [])
            cell.append(f"NOT {flavour.value}" if value in lost else flavour.value)

    def lines(self) -> Iterator[str]:
        yield self._line("value, as TOML writes it", KINDS)
        for value, cells in self.arrived.items():
            row = [", ".join(cells.get(kind, ["-"])) for kind in KINDS]
            yield self._line(shown(value), row)
        for key, values in self.refused.items():
            yield f"refused in {key}: {'  '.join(map(shown, values))}"

    def _line(self, first: str, rest: Iterable[str]) -> str:
        return "  ".join([f"{first:<{SHOWN_LENGTH}}", *(f"{cell:<16}" for cell in rest)]).rstrip()


def shown(value: str) -> str:
    text = toml_string(value)
    if len(text) <= SHOWN_LENGTH:
        return text
    return f'{text[:16]}..." ({len(value.encode())} bytes)'


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    """Written to the file that DEEPSEEK_VALUES_TABLE names, when all hosts have had their turn."""
    table = Table()
    yield table
    if file := os.environ.get("DEEPSEEK_VALUES_TABLE"):
        Path(file).write_text("\n".join(table.lines()) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def engine(host: LabHost) -> LabHost:
    """A host that serves, with an engine that tells what reached it."""
    add_engine_image(host, engine=ECHO_ENGINE)
    started = product.start(host)
    assert started.returncode == 0, started.stderr
    return host


# --- what arrives --------------------------------------------------------------------------------

KINDS: dict[str, tuple[Build, Sequence[str]]] = {
    "argument": (with_arguments, (*ODD, *NO_FOLDERS)),
    "variable": (with_variables, (*ODD, *NO_FOLDERS, *NO_ARGUMENTS)),
    "folder": (with_folders, ODD),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_odd_value_arrives(engine: LabHost, table: Table, kind: str) -> None:
    build, values = KINDS[kind]
    assert len(set(values)) == len(values)
    lost = find_lost(engine, build, values)
    table.add(kind, engine.flavour, values, lost)
    assert lost == {}


@pytest.mark.parametrize("group", GROUPS)
def test_a_model_may_have_an_odd_name(engine: LabHost, group: str) -> None:
    """The one that is served and that of its folder; and a single file is mounted as well."""
    name = "".join(GROUPS[group])
    file = Mount(f"{SOURCES} file/{name}", f"/data/{name}", True, f"{name}\n")
    assert serve(engine, Profile(name, name, mounts=[file])) == []


# What the configuration lets through (no surrogates: TOML has none).
allowed = st.characters(
    exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters=NONCHARACTERS
)
printable = st.text(allowed, min_size=1, max_size=20)
# Mostly characters that mean something to somebody on the way.
nasty = st.text(st.sampled_from("%$\"'\\;#=:{}[]@~ *?&|<>()`!-+,a模tNnh"), min_size=1, max_size=8)
odd = printable | nasty
names = odd.map(lambda value: value.translate({ord(char): "_" for char in "/:"})).filter(
    lambda value: value not in (".", "..")
)


@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # without shrinking: each try is a restart
    suppress_health_check=list(HealthCheck),
)
@given(
    served=odd,
    model=names,
    arguments=st.lists(odd.filter(lambda value: value != ";"), min_size=40, max_size=40),
    variables=st.lists(odd | st.just(""), min_size=40, max_size=40),
    folders=st.lists(names, min_size=10, max_size=10, unique=True),
)
def test_whatever_is_allowed_arrives(
    engine: LabHost,
    served: str,
    model: str,
    arguments: list[str],
    variables: list[str],
    folders: list[str],
) -> None:
    environment, mounts = with_variables(variables).variables, with_folders(folders).mounts
    problems = serve(engine, Profile(served, model, arguments, environment, mounts))
    assert problems == [], [
        find_lost(engine, build, values)
        for build, values in (
            (with_arguments, arguments),
            (with_variables, variables),
            (with_folders, folders),
        )
    ]


# --- what is refused -----------------------------------------------------------------------------

NOT_TEXT = (
    *("a\nb", "\r", "a\tb", "\0", "\x1b[2J", "a\x7f", "\x85", "\u2028", "a\u2029b"),
    *("a\ufdd0", "\ufffe", "\U0010ffff", "x" * 65_537),
)
OUTSIDE = ("/srv/a:b", "/srv/../etc", "/srv/..", "/")
PLACES: dict[str, tuple[Build, Sequence[str]]] = {
    "served_name": (lambda values: Profile(values[0]), (*NOT_TEXT, "")),
    "model": (lambda values: Profile(model=values[0]), (*NOT_TEXT, "", "a:b", "..", "../a")),
    "vllm.extra_args.0": (with_arguments, (*NOT_TEXT, *NO_ARGUMENTS)),
    "environment.ODD_0": (with_variables, NOT_TEXT),
    "mounts.0.source": (
        lambda values: Profile(mounts=[Mount(values[0], "/data/a", True, "")]),
        (*(f"/srv/{value}" for value in NOT_TEXT), *OUTSIDE, "", "relative"),
    ),
    "mounts.0.target": (
        lambda values: Profile(mounts=[Mount("/srv/a", values[0], True, "")]),
        (*(f"/data/{value}" for value in NOT_TEXT), *OUTSIDE, "", "relative"),
    ),
}


@pytest.mark.parametrize("key", PLACES)
def test_what_cannot_be_carried_is_refused(engine: LabHost, table: Table, key: str) -> None:
    assert serve(engine, Profile()) == []
    before = look(engine)
    build, values = PLACES[key]
    accepted = [value for value in values if not is_refused(engine, build([value]), key)]
    assert accepted == []
    table.refused[key] = values
    reload(engine)
    wait_until(engine, lambda status: status["broken"])
    assert look(engine) == before


def is_refused(host: LabHost, profile: Profile, key: str) -> bool:
    """The file stays there."""
    host.write(PROFILE, toml_profile(profile))
    done = host.run(["deepseekctl", "config", "check"], check=False)
    return done.returncode == 78 and f"cannot use {PROFILE}: {key}: " in done.stderr
