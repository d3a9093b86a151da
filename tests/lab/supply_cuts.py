# SPDX-License-Identifier: MulanPSL-2.0
"""`python -m tests.lab.supply_cuts modern|legacy`: image and model are being brought, and it ends
at random moments, half of them while the image is pulled: SIGKILL of all that fetches, of the
agent too, of Podman's service, or a power cut of the host.

At each: what can be seen is whole, or not there at all. Then it goes on from what is there, and
serves. `--times N` (20), `--seed N` for the same moments again. Exit status 1 when one failed.
"""

import argparse
import random
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from . import product
from .host import LabHost
from .hub import CDN, FOLDER, REPO, set_faults, start_hub
from .images import ENGINE_IMAGE
from .models import MODELS_DIRECTORY
from .process import LabError
from .product import FRONT
from .rootfs import Flavour
from .supply_scene import MODEL, bare_host, forget_images, forget_model, start_registry

UNIT = "deepseek-supply@8b.service"
WEIGHTS_MIB = 8
STAGING = f"{MODELS_DIRECTORY}/.incoming"
# The double sends 64 KiB each 50 ms at the most: the model takes 6.4 s; then comes the image.
SLOW = {"match": CDN, "kind": "slow", "rate": 2_000_000, "times": -1}
MODEL_LATEST_S, IMAGE_LATEST_S = 6.0, 3.0
PHASE_LIMIT_S = 90.0
SERVE_LIMIT_S = 200.0


class Phase(StrEnum):
    """What is being brought; the words of the unit's STATUS."""

    MODEL = "fetching the model"
    IMAGE = "the image"


class Ending(StrEnum):
    """How it ends."""

    FETCH = "SIGKILL of the fetch"
    BOTH = "SIGKILL of fetch and agent"
    PODMAN = "SIGKILL of Podman's service"
    POWER = "power cut"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was there after it, and what became of it."""

    seen: str
    served_s: float
    problems: Sequence[str]


def run_case(host: LabHost, ending: Ending, phase: Phase, after_s: float) -> Outcome:
    prepare(host)
    product.start(host, "start", "--no-block")
    product.wait_status(host, UNIT, phase, PHASE_LIMIT_S)
    time.sleep(after_s)
    end(host, ending)
    began = time.monotonic()
    seen, problems = look(host)
    try:
        product.wait_serving(host, limit_s=SERVE_LIMIT_S)
        served_s = time.monotonic() - began
        problems += problems_of(host)
    except LabError as error:
        return Outcome(seen, SERVE_LIMIT_S, [*problems, str(error)])
    return Outcome(seen, served_s, problems)


def prepare(host: LabHost) -> None:
    """Bare, and enabled: the next boot goes on by itself."""
    product.start(host, "stop", timeout_s=200)
    host.run(["systemctl", "reset-failed", "deepseek*"], check=False)
    host.run(["systemctl", "enable", FRONT])
    forget_model(host)
    forget_images(host)
    set_faults(host, SLOW)


def end(host: LabHost, ending: Ending) -> None:
    match ending:
        case Ending.FETCH:
            host.run(["systemctl", "kill", "--signal=KILL", UNIT], check=False)
        case Ending.BOTH:
            units = ["deepseek-agent.service", UNIT]
            host.run(["systemctl", "kill", "--signal=KILL", *units], check=False)
        case Ending.PODMAN:
            host.run(["systemctl", "kill", "--signal=KILL", "podman.service"], check=False)
        case Ending.POWER:
            host.power_cut()
            host.boot()
            host.wait_booted()
            start_hub(host)
            start_registry(host)


def look(host: LabHost) -> tuple[str, list[str]]:
    """What can be seen now, in words, and what of it is not whole."""
    problems = []
    model = host.run(["test", "-e", MODEL], check=False).returncode == 0
    if model and not model_is_whole(host):
        problems.append("half a model is seen")
    image = host.run(["podman", "image", "exists", ENGINE_IMAGE], check=False).returncode == 0
    if image and not image_is_whole(host):
        problems.append("half an image is seen")
    script = f"du -cm {STAGING} 2>/dev/null | tail -n 1 | cut -f 1"
    staged = host.run(["sh", "-c", script]).stdout.strip() or "0"
    return f"model {'whole' if model else f'{staged} MiB staged'}, image {image}", problems


def model_is_whole(host: LabHost) -> bool:
    sums = f"cd {FOLDER}/{REPO} && sha256sum *"
    check = f"cd {shlex.quote(MODEL)} && sha256sum --check --quiet -"
    return host.run(["sh", "-c", f"({sums}) | ({check})"], check=False).returncode == 0


def image_is_whole(host: LabHost) -> bool:
    """Its files can be read, and its program starts."""
    run = ["podman", "run", "--rm", "--network=none", "--entrypoint=/usr/bin/python3"]
    read = (
        "import pathlib; [p.read_bytes() for p in pathlib.Path('/usr').rglob('*') if p.is_file()]"
    )
    done = host.run([*run, ENGINE_IMAGE, "-c", read], check=False, timeout_s=120)
    return done.returncode == 0


def problems_of(host: LabHost) -> list[str]:
    """Once it serves."""
    problems = [] if model_is_whole(host) else ["another model serves"]
    left = host.run(["find", STAGING, "-type", "f", "-size", "+0"]).stdout.split()
    return problems + [f"left over: {path}" for path in left]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flavour", type=Flavour, choices=list(Flavour))
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    chance = random.Random(options.seed)  # noqa: S311 - moments, no secrets
    failed = 0
    with bare_host(options.flavour, f"supply-cuts-{options.flavour}", WEIGHTS_MIB) as host:
        for number in range(options.times):
            ending = list(Ending)[number % len(Ending)]
            phase = list(Phase)[number // len(Ending) % len(Phase)]
            latest_s = MODEL_LATEST_S if phase is Phase.MODEL else IMAGE_LATEST_S
            after_s = chance.uniform(0.2, latest_s)
            outcome = run_case(host, ending, phase, after_s)
            failed += bool(outcome.problems)
            word = "FAILED" if outcome.problems else "ok"
            print(
                f"{number + 1:2} {word:<6} {ending:<28} {phase}, after {after_s:4.1f} s  "
                f"serves {outcome.served_s:5.1f} s later  {outcome.seen}",
                flush=True,
            )
            for problem in outcome.problems:
                print(f"          {problem}", flush=True)
    print(f"{options.flavour}: {options.times} ends, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
