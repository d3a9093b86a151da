# SPDX-License-Identifier: MulanPSL-2.0
"""Manual pages and shell completion: fresh, whole, and understood by what reads them."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest
from pydantic import BaseModel

from agent.config.schema import (
    MountModel,
    ProfileModel,
    RegistryModel,
    SettingsModel,
    SourceModel,
)
from tests.texts import completion, configuration, manual, picture
from tests.texts.parsers import leaves, whole_parser
from tests.texts.roff import to_roff

TREE = Path(__file__).resolve().parents[2]
PAGES = manual.pages(TREE)
SCRIPTS = completion.scripts()
PICTURES = picture.pictures()
REFERENCE = configuration.pages(TREE)
COMMAND_PAGE, SETTINGS_PAGE = "docs/man/deepseekctl.1", "docs/man/deepseek-agent.toml.5"

pytestmark = pytest.mark.timeout(240)


@pytest.mark.parametrize("name", [*PAGES, *SCRIPTS, *REFERENCE, *PICTURES])
def test_what_is_committed_is_fresh(name: str) -> None:
    wanted = {**PAGES, **SCRIPTS, **REFERENCE, **PICTURES}[name]
    assert (TREE / name).read_text(encoding="utf-8") == wanted, "stale: make texts"


def test_every_page_that_units_and_help_name_is_there() -> None:
    named = set()
    for path in (TREE / "units").glob("*.s*"):
        named |= set(re.findall(r"man:([\w.-]+)\((\d)\)", path.read_text(encoding="utf-8")))
    assert ("deepseek-agent", "8") in named
    assert {f"docs/man/{name}.{section}" for name, section in named} <= set(PAGES)


# --- manual pages --------------------------------------------------------------------------------


def plain(page: str) -> str:
    return re.sub(r"\\f[BIR]|\\&", "", PAGES[page]).replace("\\-", "-").replace("\\(dq", '"')


def test_every_command_and_option_is_in_the_manual() -> None:
    text = plain(COMMAND_PAGE)
    verbs = [leaf.prog.partition(" ")[2] for leaf in leaves(whole_parser())]
    assert {"status", "bundle create", "image build", "support-bundle", "render"} <= set(verbs)
    for leaf in leaves(whole_parser()):
        verb = leaf.prog.partition(" ")[2]
        (usage,) = re.findall(rf'^\.SS "{verb}( .*)?"$', text, re.MULTILINE)
        for action in leaf._actions:
            shown = action.help != "==SUPPRESS==" and "-h" not in action.option_strings
            if action.option_strings and shown:
                assert action.option_strings[0] in usage


def test_every_setting_is_in_the_manual() -> None:
    text = plain(SETTINGS_PAGE)
    tables = {"supply.modelscope", "supply.huggingface"}
    for key, field in SettingsModel.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        if key == "registries":
            assert '[registries."' in text
        elif inner is None:
            assert re.search(rf"^{key} = ", text, re.MULTILINE)
        else:
            tables.add(key)
            section = text.partition(f'.SS "[{key}]"')[2].partition(".SH ")[0]
            for name in inner:
                there = re.search(rf"^{name} = ", section, re.MULTILINE)
                assert there or f"{key}.{name}" in tables, f"{key}.{name}"
    assert set(re.findall(r'\.SS "\[([\w.]+)\]"', text)) == tables


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_an_svg_of_all_its_text(name: str) -> None:
    root = ElementTree.fromstring(PICTURES[name])  # noqa: S314 - our own
    words = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"32b", "80E18402"} <= {word for text in words if text for word in text.split()}
    assert len(PICTURES[name].encode()) < 100_000


@pytest.mark.skipif(shutil.which("groff") is None, reason="no groff here")
@pytest.mark.parametrize("name", PAGES)
def test_groff_has_nothing_to_warn_of(name: str) -> None:
    argv = ("groff", "-ww", "-man", "-Kutf8", "-Tutf8", "-z", name)
    done = subprocess.run(argv, cwd=TREE, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("text", ["| a | b |", "1. one", "> said", "```\nno end", "<b>x</b>"])
def test_what_a_manual_page_cannot_hold_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"understood|no end"):
        to_roff(f"# x(1) -- y\n\n{text}")


def test_what_roff_would_take_for_its_own_is_text() -> None:
    text = to_roff(
        '# x(1) -- y\n\n.SH is *no* `--macro` \\n "q"\n\n\'x\n\n```\n.so /etc/passwd\n```'
    )
    assert text.split(".PP\n")[1:] == [
        "\\&.SH is \\fIno\\fR \\fB\\-\\-macro\\fR \\en \\(dqq\\(dq\n",
        "\\&'x\n",
        ".RS 4\n.EX\n\\&.so /etc/passwd\n.EE\n.RE\n",
    ]


# --- the reference of the configuration ----------------------------------------------------------


def keys_of(model: type[BaseModel], table: str = "") -> set[tuple[str, str]]:
    """Table and key of all that the schema takes."""
    found = set()
    for key, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= keys_of(inner, f"{table}.{key}".lstrip("."))
        elif key != "registries":
            found.add((table, key))
    return found


def several(model: type[BaseModel], table: str) -> set[tuple[str, str]]:
    return {(table, key) for key in model.model_fields}


def rows_of(text: str) -> dict[tuple[str, str], list[str]]:
    """Table and key -> the other cells of its row."""
    table, found = "", {}
    for line in text.splitlines():
        if line.startswith("#"):
            name = re.fullmatch(r"### `\[+([\w.]+?)(\.\"NAME\")?\]+`", line)
            table = name[1] if name is not None else ""
        elif line.startswith("| `") and line.count(" | ") == 4:
            key, *cells = line.removeprefix("| `").removesuffix(" |").split(" | ")
            assert (table, key.rstrip("`")) not in found
            found[table, key.rstrip("`")] = cells
    return found


def test_every_key_of_the_schema_is_in_the_reference_with_all_that_is_to_be_known() -> None:
    settings, _, profile = REFERENCE[configuration.PAGE].partition("## A model: ")
    registries = several(RegistryModel, "registries")
    assert rows_of(settings).keys() == keys_of(SettingsModel) | registries
    lists = several(SourceModel, "sources") | several(MountModel, "mounts")
    assert rows_of(profile).keys() == keys_of(ProfileModel) | lists
    for key, cells in {**rows_of(settings), **rows_of(profile)}.items():
        assert all(cells), key


def test_types_limits_and_units_are_those_of_the_schema() -> None:
    settings, _, profile = REFERENCE[configuration.PAGE].partition("## A model: ")
    assert rows_of(settings)["limits", "backoff_first_s"][:2] == [
        "`1`",
        "number, seconds, above 0 to 300",
    ]
    assert rows_of(settings)["supply.modelscope", "endpoints"][1].endswith("at least 1")
    assert rows_of(profile)["", "port"][:2] == ["required", "whole number, from 1 to 65535"]
    assert rows_of(profile)["vllm", "dtype"][1].startswith('`"float16"`, `"bfloat16"`')


def test_a_value_that_the_reference_has_no_words_for_is_refused() -> None:
    with pytest.raises(ValueError, match="not known"):
        configuration._type(str, ())


def test_profile_toml_names_every_key_with_its_default() -> None:
    """And what it proposes for those without one can be used."""
    text = (TREE / "etc/profile.toml").read_text(encoding="utf-8")
    said = tomllib.loads(re.sub(r"^#(\w+ = )", r"\1", text, flags=re.MULTILINE))
    tables = ("needs", "vllm")
    keys = {("", key) for key in said if key not in tables}
    assert keys | {(table, key) for table in tables for key in said[table]} == keys_of(ProfileModel)
    required = {key: said[key] for key in ("served_name", "model", "port")}
    assert ProfileModel.model_validate(said) == ProfileModel.model_validate(required)


# --- completion ----------------------------------------------------------------------------------


@pytest.fixture
def scripts(tmp_path: Path) -> dict[str, Path]:
    """The scripts, as on a host with two profiles and two NPUs."""
    for name in ("share/8b.toml", "etc/8b.toml", "etc/my-own.toml", "etc/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name in ("davinci0", "davinci11", "davinci_manager"):
        (tmp_path / name).touch()
    found = {}
    for shell, name in completion.SHELLS.items():
        text = SCRIPTS[name].replace(completion.FOLDERS, f"{tmp_path}/share {tmp_path}/etc")
        found[shell] = tmp_path / shell
        found[shell].write_text(text.replace("/dev/davinci", f"{tmp_path}/davinci"))
    return found


def complete(script: Path, *words: str) -> set[str]:
    """What bash offers for the last word."""
    code = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        "set --; _shtab_deepseekctl; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    argv = ("bash", "--norc", "-c", code, "bash", str(script), "deepseekctl", *words)
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_completes_commands(scripts: dict[str, Path]) -> None:
    verbs = {leaf.prog.split()[1] for leaf in leaves(whole_parser())}
    assert complete(scripts["bash"], "") == verbs
    assert complete(scripts["bash"], "sup") == {"support-bundle"}
    assert complete(scripts["bash"], "bundle", "") == {"create", "import", "verify"}


def test_bash_completes_options(scripts: dict[str, Path]) -> None:
    offered = complete(scripts["bash"], "logs", "8b", "--")
    assert offered == {"--help", "--follow", "--lines", "--since"}
    assert complete(scripts["bash"], "config", "") == {"check", "show", "reload"}


@pytest.mark.parametrize("verb", ["chat", "restart", "logs", "events", "render", "update"])
def test_bash_completes_instances(scripts: dict[str, Path], verb: str) -> None:
    assert complete(scripts["bash"], verb, "") == {"8b", "my-own"}
    assert complete(scripts["bash"], verb, "m") == {"my-own"}


def test_bash_completes_npus(scripts: dict[str, Path]) -> None:
    assert complete(scripts["bash"], "quarantine", "add", "") == {"0", "11"}
    assert complete(scripts["bash"], "quarantine", "add", "0", "1") == {"11"}


def test_zsh_reads_it_and_finds_instances_and_npus(scripts: dict[str, Path]) -> None:
    parts = SCRIPTS[completion.SHELLS["zsh"]]
    assert parts.startswith("#compdef deepseekctl\n")
    code = (
        "compadd() { [[ $1 == -a ]] && print -l ${(P)2} || print -l -- ${@:2}; }; "
        "compdef() { :; }; _arguments() { :; }; source $1 && "
        "_deepseekctl_instances && _deepseekctl_npus"
    )
    argv = ("zsh", "-f", "-c", code, "zsh", str(scripts["zsh"]))
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["8b", "my-own", "0", "11"]
