# SPDX-License-Identifier: MulanPSL-2.0
"""`agent.config` as a machine short of memory runs it: killed, as long as FOLDER/short is there,
where FOLDER/etc is the --etc that it is called with. Else it is the real one."""

import os
import runpy
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    etc = next(word for word in sys.argv if word.startswith("--etc") or word.endswith("/etc"))
    folder = Path(sys.argv[sys.argv.index(etc) + 1] if etc == "--etc" else etc).parent
    if (folder / "short").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    runpy.run_module("agent.config", run_name="__main__", alter_sys=True)
