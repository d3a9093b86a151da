# SPDX-License-Identifier: MulanPSL-2.0
"""Bytes, times and progress as people read them. Pure."""

from typing import assert_never

from agent.language import tr, translate
from agent.supplies import Item, Progress, Stage, Supply

BAR_WIDTH = 24


def duration(seconds: float) -> str:
    """Readable at a glance: "8 s", "1 min 20 s", "2 h 5 min", "3 d 4 h"."""
    whole = max(0, int(seconds))
    if whole < 60:
        return tr("{seconds} s", seconds=whole)
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return tr("{minutes} min {seconds} s", minutes=minutes, seconds=rest)
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return tr("{hours} h {minutes} min", hours=hours, minutes=minutes)
    days, hours = divmod(hours, 24)
    return tr("{days} d {hours} h", days=days, hours=hours)


def size(count: float) -> str:
    """Bytes, as disks and networks are sold: "16.1 GB", "830 MB"."""
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:.1f} {unit}" if count < 100 * one else f"{count / one:.0f} {unit}"
    return f"{count:.0f} B"


def gib(count: float) -> str:
    """Bytes, as room on disks is counted in the settings: "0.4", "12.3", "900"."""
    return f"{count / 2**30:.3g}" if count < 100 * 2**30 else f"{count / 2**30:.0f}"


def percent(progress: Progress) -> int | None:
    """None while the total is unknown."""
    if not progress.total_bytes:
        return None
    return min(100, 100 * progress.done_bytes // progress.total_bytes)


def describe_progress(progress: Progress) -> str:
    """ "fetching the model from modelscope.cn: 45 % (7.2 GB of 16.1 GB), 80 MB/s, 1 min left" """
    source = tr(" from {source}", source=progress.source) if progress.source else ""
    trouble = translate(progress.trouble)
    parts = [part for part in (_amount(progress), _pace(progress), trouble) if part]
    about = _verb(progress.stage).format(what=_noun(progress.item), source=source)
    return about + (tr(": ") + tr(", ").join(parts) if parts else "")


def bar(progress: Progress) -> str:
    """ "[##########..............]"; empty while the total is unknown."""
    share = percent(progress)
    return "" if share is None else f"[{meter(share / 100, BAR_WIDTH)}]"


def meter(share: float, cells: int) -> str:
    """ "######...." """
    full = int(cells * min(1.0, max(0.0, share)))
    return "#" * full + "." * (cells - full)


def _verb(stage: Stage) -> str:
    """With places for the rest."""
    match stage:
        case Stage.ASKING:
            return tr("asking for the {what}{source}")
        case Stage.FETCHING:
            return tr("fetching the {what}{source}")
        case Stage.CHECKING:
            return tr("checking the {what}{source}")
        case Stage.PLACING:
            return tr("storing the {what}{source}")
        case Stage.WRITING:
            return tr("writing the {what}{source}")
        case _:
            assert_never(stage)


def _noun(item: Item) -> str:
    match item:
        case Item.MODEL:
            return tr("model")
        case Item.IMAGE:
            return tr("image")
        case _:
            assert_never(item)


def _amount(progress: Progress) -> str:
    share = percent(progress)
    if share is None:
        return size(progress.done_bytes) if progress.done_bytes else ""
    done, total = size(progress.done_bytes), size(progress.total_bytes)
    return tr("{share} % ({done} of {total})", share=share, done=done, total=total)


def _pace(progress: Progress) -> str:
    left_s = progress.seconds_left
    if left_s is None or progress.done_bytes >= progress.total_bytes:
        return ""
    pace = size(progress.bytes_per_s)
    return tr("{pace}/s, {left} left", pace=pace, left=duration(left_s))


def say_supply(supply: Supply) -> str:
    """Which image, which model."""
    revision = supply.model_revision
    model = tr(", model revision {revision}", revision=revision[:12]) if revision else ""
    return tr("image {id}{model}", id=supply.image_id[:12], model=model)
