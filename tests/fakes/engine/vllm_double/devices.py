# SPDX-License-Identifier: MulanPSL-2.0
"""The NPU devices the double was promised: in a device folder, out open descriptors.

Opens and writes to each of them, so a container without the right devices or rights fails here as
the real engine would. The descriptors stay open for the life of EngineCore, which holds its NPUs.
"""

import errno
import os
import re

from .failures import acl_text, dcmi_text
from .model import StartError

MANAGERS = ("davinci_manager", "devmm_svm", "hisi_hdc")


def open_devices(folder: str, needed: int, visible: str | None) -> list[int]:
    """Raises StartError with ACL-like text. `visible` is ASCEND_RT_VISIBLE_DEVICES."""
    names = sorted(name for name in os.listdir(folder) if re.fullmatch(r"davinci\d+", name))
    for manager in MANAGERS:
        if not os.path.exists(os.path.join(folder, manager)):
            raise StartError(dcmi_text(-8005))
    if not names:
        raise StartError(acl_text(207004))
    usable = _count_visible(len(names), visible)
    if usable < needed:
        raise StartError(acl_text(107001, usable))
    return [_open_device(os.path.join(folder, name)) for name in (*MANAGERS, *names)]


def _count_visible(present: int, visible: str | None) -> int:
    if visible is None:
        return present
    for word in visible.split(","):
        if not word.strip().isdigit() or int(word) >= present:
            raise StartError(
                f"set ASCEND_RT_VISIBLE_DEVICES:{word} error, input data rang[0-{present})\n"
                + acl_text(107001)
            )
    return len(visible.split(","))


def _open_device(path: str) -> int:
    digits = re.search(r"\d+$", path)
    device = int(digits.group()) if digits else 0
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        os.write(descriptor, b"\0")
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise StartError(dcmi_text(-8020)) from error
        denied = error.errno in (errno.EACCES, errno.EPERM)
        code = 207006 if denied else 507033
        raise StartError(f"open {path}: {error}\n{acl_text(code, device)}") from error
    return descriptor
