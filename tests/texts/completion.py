# SPDX-License-Identifier: MulanPSL-2.0
"""Shell completion by shtab: static files, which cost nothing but their reading."""

import argparse
import re

import shtab

from .parsers import leaves, whole_parser

SHELLS = {"bash": "etc/completion/deepseekctl", "zsh": "etc/completion/_deepseekctl"}
LICENSE = "MulanPSL-2.0 AND Apache-2.0"  # shtab's own functions are in it
# By the files that name them: without the agent, and at once.
FOLDERS = "/usr/share/deepseek-agent/models.d /etc/deepseek-agent/models.d"
DEVICES = "/dev/davinci"
PREAMBLE = {
    "bash": f"""
_deepseekctl_instances() {{
  local name names=
  for name in $(ls {FOLDERS} 2>/dev/null); do
    [ "$name" = "${{name%.toml}}" ] || names="$names ${{name%.toml}}"
  done
  compgen -W "$names" -- "$1" | sort -u
}}
_deepseekctl_npus() {{
  local name names=
  for name in {DEVICES}[0-9]*; do names="$names ${{name#{DEVICES}}}"; done
  compgen -W "$names" -- "$1"
}}
""",
    "zsh": f"""
_deepseekctl_instances() {{
  local -aU names
  names=( ${{^=:-{FOLDERS}}}/*.toml(N:t:r) )
  compadd -a names
}}
_deepseekctl_npus() {{
  local -a names
  names=( {DEVICES}[0-9]*(N:t) )
  compadd -- ${{names#davinci}}
}}
""",
}
COMPLETERS = {
    "instance": "_deepseekctl_instances",
    "npus": "_deepseekctl_npus",
}
FILES = {"output", "facts", "file", "sign", "signers"}
FOLDER_OPTIONS = {"folder", "etc", "share"}


def scripts() -> dict[str, str]:
    """Path below the tree -> text."""
    parser = whole_parser()
    for leaf in leaves(parser):
        for action in leaf._actions:
            _complete(action)
    return {
        path: _head(shtab.complete(parser, shell, preamble=PREAMBLE[shell]), shell)
        for shell, path in SHELLS.items()
    }


def _complete(action: argparse.Action) -> None:
    if action.dest in COMPLETERS and action.choices is None:
        how: object = dict.fromkeys(SHELLS, COMPLETERS[action.dest])
    elif action.dest in FILES:
        how = shtab.FILE
    elif action.dest in FOLDER_OPTIONS:
        how = shtab.DIRECTORY
    else:
        return
    vars(action)["complete"] = how  # where shtab looks for it


def _head(text: str, shell: str) -> str:
    """The first line stays where zsh wants it. Whoever reads it is told what it is made of."""
    first, _, rest = text.partition("\n")
    rest = re.sub(r"\A\n*(?:#.*\n)+", "", rest)
    told = (
        f"# SPDX-License-Identifier: {LICENSE}\n# Made by `make texts` with shtab; do not edit.\n"
    )
    return f"{first}\n{told}{rest}" if shell == "zsh" else f"{told}{rest}"
