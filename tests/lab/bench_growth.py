# SPDX-License-Identifier: MulanPSL-2.0
"""How memory and processor time grow with models that serve, and with NPUs."""

import time
from collections.abc import Sequence

from agent.model import front_unit

from . import product
from .bench_scene import pids_of, use_of, watch_idle
from .bench_table import Table
from .host import LabHost
from .models import MODEL_8B
from .npus import make_npus, remove_npus

COUNTS = (1, 2, 4, 8, 16)
LOOK_S = 60
SETTLE_S = 20
SERVING_S = 240.0
AGENT, NPUD = "deepseek-agent.service", "deepseek-npud.service"
HEADER = ("", "agentd PSS, MiB", "npud", "each attach", "agentd CPU, %", "npud CPU, %")
INSTANCES_NOTE = (
    f"16 NPUs, a model on each. PSS after, and processor time over, {LOOK_S} s in which nobody "
    "asks."
)
NPUS_NOTE = f"One model serves. PSS and processor time as above, over {LOOK_S} s."
PROFILE = """served_name = "{name}"
model = "{model}"
port = {port}
{needs}
"""


def measure_instances(host: LabHost) -> Table:
    remove_npus(host)  # what was there has told libdcmi's double of eight
    make_npus(host, max(COUNTS))
    names = [f"m{number}" for number in range(max(COUNTS))]
    for number, name in enumerate(names):
        needs = product.SMALLER_NEEDS
        text = PROFILE.format(name=name, model=MODEL_8B, port=2100 + number, needs=needs)
        host.write(f"/etc/deepseek-agent/models.d/{name}.toml", text)
    host.run(["systemctl", "restart", NPUD])
    host.run(["systemctl", "reload-or-restart", AGENT])
    rows = []
    started = 0
    for count in COUNTS:
        fronts = [front_unit(name) for name in names[started:count]]
        host.run(["systemctl", "start", *fronts], timeout_s=SERVING_S)
        started = count
        rows.append((_count(count, "model"), *_look(host, names[:count])))
    return Table("Models", INSTANCES_NOTE, HEADER, tuple(rows))


def measure_npus(host: LabHost) -> Table:
    rows = []
    for count in COUNTS:
        host.run(["systemctl", "stop", product.FRONT], timeout_s=SERVING_S)
        remove_npus(host)
        make_npus(host, count)
        host.run(["systemctl", "restart", NPUD])
        product.start(host, timeout_s=SERVING_S)
        rows.append((_count(count, "NPU"), *_look(host, ["8b"])))
    return Table("NPUs", NPUS_NOTE, HEADER, tuple(rows))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _look(host: LabHost, names: Sequence[str]) -> tuple[str, ...]:
    time.sleep(SETTLE_S)
    attached = [pid for name in names for pid in pids_of(host, front_unit(name))]
    idle = watch_idle(host, {unit: pids_of(host, unit) for unit in (AGENT, NPUD)}, LOOK_S)
    agent, npud = idle.costs[AGENT], idle.costs[NPUD]
    attach = use_of(host, attached).pss_mib / len(attached)
    sizes = (agent.pss_mib, npud.pss_mib, attach)
    shares = (agent.cpu_percent, npud.cpu_percent)
    return (*(f"{size:.1f}" for size in sizes), *(f"{share:.3f}" for share in shares))
