# SPDX-License-Identifier: MulanPSL-2.0
"""`python -m tests.lab.start_table modern|legacy`: what each failure of the engine double at its
start comes to: code, phase, and how many containers were started while a held one would have been
looked at three times. Exit status 1 when one has no name, or is tried again in vain.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from agent.model import container_name, front_unit
from tests.fakes.engine.vllm_double.failures import FAILURES

from . import product
from .host import LabHost
from .models import MODEL_8B
from .rootfs import Flavour

RECHECK_S = 10  # the least that the configuration takes
PERIODS = 3
PATIENCE_S = 30.0
AT_ONCE = 8  # as many as there are NPUs
SETTINGS = "/etc/deepseek-agent/agent.toml.d/starts.toml"
PROFILE = """served_name = "{name}"
model = "{model}"
port = {port}
{needs}
[environment]
VLLM_DOUBLE_FAIL_AT_START = "{failure}"
VLLM_DOUBLE_LOAD_S = "1"
"""
# Only a change can mend these; all others are tried again.
LASTING = {
    "bad-dtype": "engine-option-invalid",
    "damaged-model": "model-invalid",
    "unknown-flag": "engine-option-invalid",
    "acl-107001": "npu-not-usable",
    "acl-207006": "npu-not-usable",
}
UNNAMED = ("engine-died", "unit-start-failed")
CONTAINERS = (
    "journalctl -b --output=json --output-fields=CONTAINER_ID_FULL CONTAINER_NAME=$1 "
    "| grep -Eo '[0-9a-f]{64}' | sort -u | wc -l"
)


@dataclass(frozen=True, slots=True)
class Row:
    """What a failure came to."""

    failure: str
    code: str
    phase: str
    containers: int
    message: str

    @property
    def problem(self) -> str:
        """Empty when it is as it should be."""
        if self.code in UNNAMED or not self.code:
            return "it has no name"
        if self.failure in LASTING:
            if (self.code, self.phase) != (LASTING[self.failure], "held"):
                return "it should be held"
            return "" if self.containers == 1 else "it was tried again in vain"
        if self.phase == "held":
            return "it should be tried again"
        return "" if self.containers > 1 else "it was not tried again"


def run_failures(host: LabHost, failures: Sequence[str]) -> list[Row]:
    """One instance for each, all at once; they are gone at the end."""
    host.write(SETTINGS, f"[limits]\nrecheck_held_s = {RECHECK_S}\n")
    for number, failure in enumerate(failures):
        write_profile(host, failure, number)
    host.run(["systemctl", "reload-or-restart", "deepseek-agent"])
    # A reload returns before the files have been read.
    for failure in failures:
        product.wait_told(host, instance(failure))
    fronts = [front_unit(instance(failure)) for failure in failures]
    try:
        host.run(["systemctl", "enable", *fronts])
        host.run(["systemctl", "start", "--no-block", *fronts])
        time.sleep(PERIODS * RECHECK_S + 5)
        return [look(host, failure) for failure in failures]
    finally:
        host.run(["systemctl", "disable", "--now", *fronts], check=False, timeout_s=120)
        files = [f"/etc/deepseek-agent/models.d/{instance(failure)}.toml" for failure in failures]
        host.run(["rm", "-f", SETTINGS, *files])


def instance(failure: str) -> str:
    return f"f-{failure}"


def write_profile(host: LabHost, failure: str, number: int, more: str = "") -> None:
    text = PROFILE.format(
        name=instance(failure),
        model=MODEL_8B,
        port=2100 + number,
        needs=product.SMALLER_NEEDS,
        failure=failure,
    )
    host.write(f"/etc/deepseek-agent/models.d/{instance(failure)}.toml", more + text)


def look(host: LabHost, failure: str) -> Row:
    """Not in the moment in which a held one is looked at again: then it is starting. On a busy
    machine the second try of another one may take a while."""
    deadline = time.monotonic() + PATIENCE_S
    while (row := _look(host, failure)).problem or row.phase == "starting":
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    return row


def _look(host: LabHost, failure: str) -> Row:
    done = host.run(["deepseekctl", "status", "--json"], check=False)
    views = json.loads(done.stdout)["instances"]
    (view,) = [one for one in views if one["name"] == instance(failure)]
    found = view["failure"] or {"code": "", "message": ""}
    return Row(
        failure, found["code"], view["phase"], count_containers(host, failure), found["message"]
    )


def count_containers(host: LabHost, failure: str) -> int:
    """That have been started in this boot."""
    name = container_name(instance(failure))
    return int(host.run(["sh", "-c", CONTAINERS, "sh", name]).stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flavour", type=Flavour, choices=list(Flavour))
    parser.add_argument("--only", default="", help="names of failures, with commas")
    options = parser.parse_args()
    names, missed = options.only.split(",") if options.only else list(FAILURES), 0
    with product.supplied_host(options.flavour, f"starts-{options.flavour}") as host:
        product.install(host)
        print(f"{options.flavour}: failure, code, phase, containers, what is said", flush=True)
        for first in range(0, len(names), AT_ONCE):
            for row in run_failures(host, names[first : first + AT_ONCE]):
                missed += bool(row.problem)
                verdict = f"MISSED: {row.problem}" if row.problem else "good"
                print(
                    f"{row.failure:<18} {row.code:<22} {row.phase:<9} {row.containers:>2}  "
                    f"{verdict}  {row.message}",
                    flush=True,
                )
    print(f"{len(names)} failures, {missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
