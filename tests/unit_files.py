# SPDX-License-Identifier: MulanPSL-2.0
"""A reader of unit files of its own, by systemd.syntax(7), systemd.unit(5) and systemd.service(5):
what systemd and Podman's quadlet generator make of the text that is rendered."""

import re
from collections.abc import Iterator

from agent.plan.plan import Plan
from agent.render.workload import Workload, build_workload

C_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", '"': '"', "'": "'", "s": " ",
}  # fmt: skip
SPECIFIERS = {"%": "%", "t": "/run", "N": "deepseek-vllm-8b", "n": "deepseek-vllm-8b.service"}


def read_unit(text: str) -> dict[str, list[tuple[str, str]]]:
    """Section -> its assignments in order. Refuses what systemd would not read as one line each."""
    sections: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    for line in text.split("\n"):
        assert "\r" not in line
        assert "\0" not in line
        if not line.strip() or line[0] in "#;":
            continue
        assert not line.endswith("\\"), "would go on in the next line"
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), [])
        else:
            key, equals, value = line.partition("=")
            assert equals
            assert re.fullmatch(r"[A-Za-z0-9]+", key)
            current.append((key, value.strip(" \t")))
    return sections


def split_words(value: str) -> list[str]:
    """Unquoted words; only whitespace of ASCII separates them."""
    words: list[str] = []
    rest = value.lstrip(" \t")
    while rest:
        word, rest = _first_word(rest)
        words.append(word)
        rest = rest.lstrip(" \t")
    return words


def _first_word(text: str) -> tuple[str, str]:
    word, quote, at = "", "", 0
    assert not re.match(r";(\s|$)", text), "would separate two commands"
    while at < len(text):
        char = text[at]
        at += 1
        if char == "\\":
            assert text[at] in C_ESCAPES
            word += C_ESCAPES[text[at]]
            at += 1
        elif quote:
            quote, word = ("", word) if char == quote else (quote, word + char)
        elif char in "\"'":
            quote = char
        elif char in " \t":
            return word, text[at:]
        else:
            word += char
    assert not quote, "unbalanced"
    return word, ""


def expand_specifiers(word: str) -> str:
    return re.sub(r"%(.?)", lambda found: SPECIFIERS[found[1]], word)


def expand_variables(word: str) -> str:
    """As if the environment were empty: "$$" is the only thing that leaves a dollar."""
    pattern = r"\$(\$|\{[^}]*\}|[A-Za-z_][A-Za-z0-9_]*)?"
    return re.sub(pattern, lambda found: "$" if found[1] in (None, "$") else "", word)


def read_command(value: str) -> list[str]:
    """The argv that systemd executes."""
    return [expand_variables(expand_specifiers(word)) for word in split_words(value)]


def read_plain(text: str) -> list[str]:
    (command,) = (value for key, value in read_unit(text)["Service"] if key == "ExecStart")
    return read_command(command)


def read_quadlet(text: str, key: str) -> Iterator[list[str]]:
    """What podman gets of the values of one key. The generator unquotes words, and quotes them
    again for ExecStart=, where systemd expands them (podman, pkg/systemd/parser/split.go). Tried
    with 5.4.2: it does not unquote Volume=, stops at an empty word, and leaves ";" bare."""
    for name, value in read_unit(text)["Container"]:
        if name == key:
            words = [value] if key == "Volume" else split_words(value)
            assert "" not in words
            assert ";" not in words
            yield [expand_variables(expand_specifiers(word)) for word in words]


def check_command(argv: list[str], workload: Workload) -> None:
    assert argv[-len(workload.command) :] == list(workload.command)
    assert argv[-len(workload.command) - 1] == workload.image


def _values(argv: list[str], option: str) -> Iterator[str]:
    """In two words, or in one, as PodmanArgs= has them."""
    for at, word in enumerate(argv):
        if word == option:
            yield argv[at + 1]
        elif word.startswith(f"{option}="):
            yield word.partition("=")[2]


def check_generated(dryrun: str, plan: Plan) -> None:
    """What `podman-system-generator --dryrun` printed: none of our options is lost, and the command
    is the workload's."""
    argv = read_plain(dryrun.partition("\n")[2])
    workload = build_workload(plan)
    check_command(argv, workload)
    file = [workload.environment_file] if workload.environment_file else []
    for option, wanted in (
        ("--env", [f"{name}={value}" for name, value in workload.environment]),
        ("--env-file", file),
        ("--device", list(workload.devices)),
        ("-v", [mount.text for mount in workload.mounts]),
        ("--pids-limit", ["32768"] if workload.host.pids_controller else []),
        ("--workdir", ["/tmp"] if workload.read_only_root else []),
    ):
        assert list(_values(argv, option)) == wanted
    assert "--oom-score-adj=100" in argv
    assert ("--read-only" in argv) is workload.read_only_root
    # All that stop it, and requests are drained first.
    stops = [
        value for key, value in read_unit(dryrun.partition("\n")[2])["Service"] if key == "ExecStop"
    ]
    assert [value.split()[0].rpartition("/")[2] for value in stops] == ["drain", "podman"]
