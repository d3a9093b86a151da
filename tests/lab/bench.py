# SPDX-License-Identifier: MulanPSL-2.0
"""`make bench`: time to the first answer beside a hand-written quadlet, recovery, and memory.

The quadlet is what a careful person would write by hand for the same image, model and engine; it
is loaded before the clock starts. Both are measured in turn on the same booted host, from
`systemctl start` to the first answer of the tutorial's curl. Numbers are printed, not judged.
"""

import os
import statistics
import sys
import time

from . import product
from .host import LabHost
from .product import CONTAINER, FRONT
from .rootfs import Flavour

RUNS = 5
IDLE_S = 60
BY_HAND = "/etc/containers/systemd/by-hand.container"
QUADLET = """[Container]
Image=quay.io/ascend/vllm-ascend:v0.18.0-openeuler
ContainerName=by-hand
AddDevice=/dev/davinci0
AddDevice=/dev/davinci_manager
AddDevice=/dev/devmm_svm
AddDevice=/dev/hisi_hdc
Volume=/var/lib/deepseek/models/DeepSeek-R1-Distill-Llama-8B:/model:ro
PublishPort=127.0.0.1:2023:8000
Exec=vllm serve /model --served-model-name=deepseek-r1:8b --port=8000 --dtype=float16
"""


def main() -> int:
    for flavour in Flavour:
        with product.supplied_host(flavour, "bench") as host:
            print(f"{flavour.value} host")
            product.install(host)
            if flavour is Flavour.MODERN:  # the other one's Podman has no quadlet
                host.write(BY_HAND, QUADLET)
                host.run(["systemctl", "daemon-reload"])
                _measure_start(host)
            _measure_recovery(host)
            _show_memory(host)
            _show_idle_cost(host)
    return 0


def _measure_start(host: LabHost) -> None:
    product.start(host)  # the agent itself is up, as on a host that runs for a year
    product.start(host, "stop")
    ours, by_hand = [], []
    for _ in range(RUNS):
        by_hand.append(_first_answer(host, "by-hand.service"))
        ours.append(_first_answer(host, FRONT))
    print("systemctl start to first answer, seconds (the engine loads for 2.0):")
    for name, values in (("quadlet by hand", by_hand), ("deepseek-agent", ours)):
        runs = "  ".join(f"{value:.2f}" for value in values)
        print(f"  {name:<16} {runs}   median {statistics.median(values):.2f}")
    difference = statistics.median(ours) - statistics.median(by_hand)
    print(f"  difference of the medians: {difference:+.2f}")


def _first_answer(host: LabHost, unit: str) -> float:
    began = time.monotonic()
    host.run(["systemctl", "start", "--no-block", unit])
    product.ask_until_answered(host)
    took = time.monotonic() - began
    host.run(["systemctl", "stop", unit], timeout_s=120)
    return took


def _measure_recovery(host: LabHost) -> None:
    product.start(host)
    times = []
    for _ in range(RUNS):
        host.run(["podman", "kill", "--signal=KILL", CONTAINER])
        times.append(product.ask_until_answered(host))
        time.sleep(1)
    runs = "  ".join(f"{value:.2f}" for value in times)
    print(f"engine killed to next answer, seconds (failures in a row back off):\n  {runs}")


def _show_memory(host: LabHost) -> None:
    units = ("deepseek-agent.service", "deepseek-npud.service", FRONT)
    sizes = [(unit, product.pss_mib(host, unit)) for unit in units]
    print("PSS while serving, MiB:")
    for unit, size in sizes:
        print(f"  {unit:<24} {size:5.1f}")
    print(f"  {'all':<24} {sum(size for _, size in sizes):5.1f}")


def _show_idle_cost(host: LabHost) -> None:
    """Processor time of our processes and their children while the model serves and nobody asks."""
    units = ("deepseek-agent.service", "deepseek-npud.service", FRONT)
    before = [_cpu_s(host, unit) for unit in units]
    time.sleep(IDLE_S)
    spent = [_cpu_s(host, unit) - start for unit, start in zip(units, before, strict=True)]
    print(f"processor time over {IDLE_S} idle seconds, percent of one core:")
    for unit, seconds in zip(units, spent, strict=True):
        print(f"  {unit:<24} {seconds / IDLE_S * 100:6.3f}")


def _cpu_s(host: LabHost, unit: str) -> float:
    pid = product.show(host, unit, "MainPID")["MainPID"]
    fields = host.read(f"/proc/{pid}/stat").rsplit(") ", 1)[1].split()
    ticks = sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
