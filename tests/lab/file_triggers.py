# SPDX-License-Identifier: MulanPSL-2.0
"""The daemon-reloads that openEuler's systemd package makes by itself, in a host that lacks them.

Its spec (of 249, openEuler 22.03) reloads whenever a package brings or takes unit files: once when
the old files are gone, before %posttrans, and once at the end of the transaction.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from .host import LabHost

NAME = "lab-file-triggers"
WORK = "/var/tmp/lab-file-triggers"
UNITS = "/usr/lib/systemd/system /etc/systemd/system"
MARK = "/run/lab-file-triggers"
SPEC = f"""Name: {NAME}
Version: 1
Release: 1
Summary: What openEuler's systemd does when unit files come and go
License: MulanPSL-2.0
BuildArch: noarch
%description
%{{summary}}.
%files
%transfiletriggerin -P 900900 -- {UNITS}
systemctl daemon-reload
%transfiletriggerun -- {UNITS}
touch {MARK}
%filetriggerpostun -P 1000100 -- {UNITS}
if rm {MARK} 2>/dev/null; then systemctl daemon-reload; fi
"""


@contextmanager
def file_triggers(host: LabHost) -> Iterator[None]:
    """They are there while the block runs."""
    host.write(f"{WORK}/triggers.spec", SPEC)
    build = ["rpmbuild", "-bb", "--quiet", f"--define=_topdir {WORK}", f"{WORK}/triggers.spec"]
    host.run(build, timeout_s=120)
    host.run(["sh", "-c", f"rpm --upgrade --force {WORK}/RPMS/*/*.rpm"])
    try:
        yield
    finally:
        host.run(["rpm", "--erase", NAME])
        host.run(["rm", "-rf", WORK])
