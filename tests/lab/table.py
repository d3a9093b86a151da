# SPDX-License-Identifier: MulanPSL-2.0
"""Host x profile -> renderer, file, keys, and the word of the real quadlet generator.

`python3 -m tests.lab.table` boots a modern host and prints the table. A generator is there for that
host's own Podman alone: for every other version the table says "not run", whatever this one says.
"""

import sys
import tempfile
from pathlib import Path

from agent.config.values import RendererChoice
from agent.plan.plan import Plan
from agent.render.render import RenderedFile, render
from tests.cases import CASES
from tests.unit_files import check_generated, read_unit

from . import product
from .host import LabHost
from .machine import prepare_machine
from .rootfs import Flavour

GENERATOR = "/usr/lib/systemd/system-generators/podman-system-generator"
FOLDER = "/run/quadlets"


def quadlets() -> dict[str, RenderedFile]:
    """The cases that come out as quadlets."""
    files = {case: render(plan, RendererChoice.AUTO) for case, plan in CASES.items()}
    return {case: file for case, file in files.items() if file.renderer is RendererChoice.QUADLET}


def podman_version(host: LabHost) -> str:
    """As the generator's own package has it."""
    return host.run(["podman", "--version"]).stdout.split()[-1].partition("+")[0]


def generate(host: LabHost, case: str, file: RenderedFile) -> str:
    """What the host's generator makes of the file. Raises CommandFailed when it refuses it."""
    folder = f"{FOLDER}/{case}"
    host.write(f"{folder}/{file.path.name}", file.text)
    return host.run(["env", f"QUADLET_UNIT_DIRS={folder}", GENERATOR, "--dryrun"]).stdout


def verdict(host: LabHost, version: str, case: str, plan: Plan) -> str:
    """ "accepted" when every option comes out as it went in."""
    file = quadlets()[case]
    try:
        check_generated(generate(host, case, file), plan)
        word = "accepted"
    except AssertionError as error:
        word = f"CHANGED: {error}"
    if ".".join(map(str, plan.host.podman_version)) == version:
        return f"ran: {word}"
    return f"not run ({version} says: {word})"


def row(case: str, plan: Plan, word: str) -> str:
    file = render(plan, RendererChoice.AUTO)
    version = ".".join(map(str, plan.host.podman_version))
    known = read_unit(file.text).get("Container", [])
    keys = len({key for key, _ in known})
    arguments = next((value for key, value in known if key == "PodmanArgs"), "")
    used = f"{keys} keys" + (f", PodmanArgs={arguments}" if arguments else "") if known else "-"
    where = str(file.path.parent)
    npus = f"{len(plan.npus)} x {plan.npus[0].product}"
    cells = (case, version, f"v{plan.host.cgroup_version}", plan.instance, npus, file.renderer)
    return " | ".join((*cells, where, used, word))


def main() -> int:
    prepare_machine()
    with (
        tempfile.TemporaryDirectory(prefix="deepseek-lab-", dir="/var/tmp") as folder,
        product.create_host(Flavour.MODERN, "table", Path(folder)) as host,
    ):
        version = podman_version(host)
        print("case | Podman | cgroup | profile | NPUs | renderer | folder | keys | generator")
        for case, plan in CASES.items():
            unit = case not in quadlets()
            print(row(case, plan, "none" if unit else verdict(host, version, case, plan)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
