# SPDX-License-Identifier: MulanPSL-2.0
"""A page with a terminal's colors -> SVG, and the picture of README: a status that has something to
tell, made of values of the tests. `python -m tests.texts.picture < page` for any other page.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import escape

from agent.cells import width
from agent.control.npu_views import build_npu_views
from agent.language import Language, speak
from agent.model import FaultSeverity, NpuFault, NpuHealth, NpuReadings, Phase
from agent.status.page import Look
from agent.status.show import show
from agent.status.snapshot import EventView, Snapshot
from tests.build import build_inventory, build_snapshot, build_view
from tests.npus import Host

CELL, LINE, MARGIN, FONT_PX = 8.4, 18, 16, 14
COLORS = {"": "#d4d4d4", "32": "#7ec77e", "33": "#e5c76b", "31": "#f08080", "1;31": "#ff7b72"}
BACKGROUND = "#1e1e1e"
FONTS = "'DejaVu Sans Mono', Menlo, Consolas, 'Noto Sans Mono CJK SC', monospace"
NOW = 1_700_000_000.0
NPUS = (0, 1, 2, 4)
FAULT = "80E18402 HBM: isolated rows have reached the limit of 64"
EVENTS = (
    (7500, "", "npu-set-aside", "no model is started on it", 3),
    (7500, "32b", "npu-lost", "it is stopped, and started anew", 3),
    (7497, "32b", "loading", "", None),
    (7380, "32b", "serving", "", None),
)
PICTURES = {
    Language.ENGLISH: "docs/img/status.svg",
    Language.CHINESE: "docs/img/status.zh.svg",
}
PIECE = re.compile(r"\S+(?: \S+)*")  # up to two blanks
SGR = re.compile(r"\033\[([\d;]*)m")


@dataclass(frozen=True, slots=True)
class Run:
    """Text of one color, and the cell that it begins in."""

    at: int
    text: str
    color: str


def runs(line: str) -> Iterator[Run]:
    at, color = 0, ""
    parts = SGR.split(line)
    for number, part in enumerate(parts):
        if number % 2:
            color = "" if part in ("", "0", "39") else part
        elif part:
            yield Run(at, part, color)
            at += width(part)


def to_svg(page: str, title: str) -> str:
    lines = page.splitlines()
    cells = max(width(SGR.sub("", line)) for line in lines)
    wide, high = cells * CELL + 2 * MARGIN, len(lines) * LINE + 2 * MARGIN
    texts = "\n".join(text for row, line in enumerate(lines) for text in _texts(row, line))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide:.0f}" height="{high:.0f}" '
        f'viewBox="0 0 {wide:.0f} {high:.0f}" role="img">\n<title>{escape(title)}</title>\n'
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>\n'
        f'<g font-family="{FONTS}" font-size="{FONT_PX}">\n{texts}\n</g>\n</svg>\n'
    )


def _texts(row: int, line: str) -> Iterator[str]:
    """Each piece between blanks has its place and its length: columns stand in whatever font."""
    y = MARGIN + row * LINE + FONT_PX
    for run in runs(line):
        for piece in PIECE.finditer(run.text):
            x = MARGIN + (run.at + width(run.text[: piece.start()])) * CELL
            text = escape(piece.group())
            yield (
                f'<text x="{x:.1f}" y="{y}" textLength="{width(piece.group()) * CELL:.1f}" '
                f'lengthAdjust="spacingAndGlyphs" fill="{COLORS[run.color]}">{text}</text>'
            )


def pictures() -> dict[str, str]:
    """Path below the tree -> SVG, in both languages."""
    made = {}
    for language, path in PICTURES.items():
        speak(language)
        try:
            page = show(_degraded(), NOW, Look(width=100, color=True))
        finally:
            speak(Language.ENGLISH)
        made[path] = to_svg(page, "deepseekctl status")
    return made


def _degraded() -> Snapshot:
    """One of eight NPUs has a fault; the model goes on with four of them."""
    host = Host.of(8)
    for npu in range(8):
        used, busy = (57_344, 64 + npu) if npu in NPUS else (3_445, 0)
        readings = NpuReadings(44 + busy // 6, 102.0 + 2.5 * busy, busy, 0, 43 + busy // 5)
        host.set(npu, readings=readings, memory_used_mib=used)
    fault = NpuFault("80E18402", FaultSeverity.MAJOR, "", NOW - 7500)
    host.set(3, faults=(fault,), health=NpuHealth.ALARM)
    host.later(7500)
    inventory = build_inventory(host.npus.values(), source="dcmi")
    holders = dict.fromkeys(NPUS, "32b")
    unfit = host.unfit().values()
    view = build_view(
        name="32b",
        unit="deepseek-vllm-32b.service",
        unit_file="/run/containers/systemd/deepseek-vllm-32b.container",
        since=NOW - 7380,
        served_name="deepseek-r1:32b",
        npus=NPUS,
        degraded=f"4 of 8 NPUs; 3: set aside: {FAULT}",
    )
    return build_snapshot(
        view,
        *(build_view(Phase.IDLE, name=name, npus=()) for name in ("7b", "8b")),
        inventory=inventory,
        npus=build_npu_views(host.fleet, inventory, unfit, host.rules, holders, host.now, NOW),
        events=tuple(EventView(NOW - ago, *event) for ago, *event in EVENTS),
        started_at=NOW - 3_542_400,
    )


if __name__ == "__main__":
    sys.stdout.write(to_svg(sys.stdin.read(), "deepseekctl"))
