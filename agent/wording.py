# SPDX-License-Identifier: MulanPSL-2.0
"""Bytes, times and progress as people read them. Pure."""

from typing import assert_never

from agent.supplies import Item, Progress, Stage, Supply

BAR_WIDTH = 24


def duration(seconds: float) -> str:
    """Readable at a glance: "8 s", "1 min 20 s", "2 h 5 min", "3 d 4 h"."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


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
    source = f" from {progress.source}" if progress.source else ""
    parts = [part for part in (_amount(progress), _pace(progress), progress.trouble) if part]
    about = f"{_verb(progress.stage)} the {_noun(progress.item)}{source}"
    return about + (f": {', '.join(parts)}" if parts else "")


def bar(progress: Progress) -> str:
    """ "[##########..............]"; empty while the total is unknown."""
    share = percent(progress)
    if share is None:
        return ""
    full = BAR_WIDTH * share // 100
    return f"[{'#' * full}{'.' * (BAR_WIDTH - full)}]"


def _verb(stage: Stage) -> str:
    match stage:
        case Stage.ASKING:
            return "asking for"
        case Stage.FETCHING:
            return "fetching"
        case Stage.CHECKING:
            return "checking"
        case Stage.PLACING:
            return "storing"
        case Stage.WRITING:
            return "writing"
        case _:
            assert_never(stage)


def _noun(item: Item) -> str:
    match item:
        case Item.MODEL:
            return "model"
        case Item.IMAGE:
            return "image"
        case _:
            assert_never(item)


def _amount(progress: Progress) -> str:
    share = percent(progress)
    if share is None:
        return size(progress.done_bytes) if progress.done_bytes else ""
    return f"{share} % ({size(progress.done_bytes)} of {size(progress.total_bytes)})"


def _pace(progress: Progress) -> str:
    left_s = progress.seconds_left
    if left_s is None or progress.done_bytes >= progress.total_bytes:
        return ""
    return f"{size(progress.bytes_per_s)}/s, {duration(left_s)} left"


def say_supply(supply: Supply) -> str:
    """Which image, which model."""
    revision = supply.model_revision
    model = f", model revision {revision[:12]}" if revision else ""
    return f"image {supply.image_id[:12]}{model}"
