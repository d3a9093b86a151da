# SPDX-License-Identifier: MulanPSL-2.0
"""A Dcmi source with the double of libdcmi behind it: real forks, real ctypes, real hangs."""

import atexit
import functools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path
from selectors import DefaultSelector

from agent.model import DriverState, Inventory, Npu, ResetOutcome
from agent.npud.child import Kill
from agent.npud.dcmi.process import WorkerProcess, kill_process
from agent.npud.dcmi_source import Dcmi
from agent.npud.log import Log
from agent.npud.requests import Reset
from agent.npud.smi_source import NpuSmi
from agent.npud.source import ResetLimits
from tests.fakes.dcmi import build
from tests.fakes.dcmi.control import DcmiDouble
from tests.own_children import OwnChildren
from tests.unit.npud.fake_smi import answering, write_script
from tests.unit.npud.nodes import UNUSED_MINORS, make_node

DEADLINE_S = 0.3  # of a vendor call; 5 s in real life
WAIT_S = 20.0
LIMITS = ResetLimits(reset_s=4.0, boot_s=1.0, look_s=0.05)

Ended = tuple[ResetOutcome, str]


@functools.cache
def library(missing: tuple[str, ...] = (), ecc_layout: int = 7) -> str:
    """Compiled once for all tests that want it so."""
    folder = Path(tempfile.mkdtemp(prefix="npud-libdcmi-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(build(folder, missing, ecc_layout))


class Reading:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._children = OwnChildren()
        self.double = DcmiDouble(folder / "state" / "double")
        os.environ["DCMI_DOUBLE"] = str(self.double.path)
        self.selector = DefaultSelector()
        self.accounts: list[Inventory] = []
        self.news: list[Inventory] = []
        self.log: list[str] = []
        self.smi = folder / "npu-smi"
        self.dev = folder / "dev"
        self.dev.mkdir()
        for number in range(16):
            make_node(self.dev, number, UNUSED_MINORS + number)
        self.source = self.make()

    def make(
        self,
        path: str = "",
        missing: Collection[str] = (),
        ecc_layout: int = 7,
        kill: Kill = kill_process,
        limits: ResetLimits = LIMITS,
    ) -> Dcmi:
        if hasattr(self, "source"):
            self.source.close()
        self.source = Dcmi(
            self.selector,
            self._on_account,
            self.news.append,
            Log(self.log.append),
            NpuSmi(self.selector, self._on_account, (str(self.smi),)),
            (path or library(tuple(sorted(missing)), ecc_layout),),
            DEADLINE_S,
            kill,
            limits,
            str(self.dev),
        )
        return self.source

    def _on_account(self, account: Inventory) -> None:
        self.accounts.append(account)
        self.news.append(account)  # what came last, however

    @property
    def last(self) -> Inventory:
        return self.news[-1]

    def npu(self, logic_id: int) -> Npu:
        return next(npu for npu in self.last.npus if npu.logic_id == logic_id)

    def run(self, is_done: Callable[[], bool], seconds: float = WAIT_S) -> None:
        end = time.monotonic() + seconds
        while not is_done():
            assert time.monotonic() < end, f"waited too long: {self.news[-1:]} {self.log}"
            self.turn()

    def run_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.turn()

    def turn(self) -> None:
        """As npud's loop does it."""
        self.source.tick(time.monotonic())
        wait_s = min(0.02, max(0.0, self.source.next_at() - time.monotonic()))
        for key, mask in self.selector.select(wait_s):
            current = self.selector.get_map().get(key.fd)
            if current is not None and current.data is key.data:
                key.data(mask)

    def read(self) -> Inventory:
        before = len(self.accounts)
        self.source.begin(time.monotonic())
        self.run(lambda: len(self.accounts) > before)
        return self.accounts[-1]

    def start(self, product: str = "910B3", cards: int | None = None) -> Inventory:
        self.double.start(product, cards)
        seen = self.read()
        assert seen.driver is DriverState.READY, seen.detail
        return seen

    @property
    def worker(self) -> WorkerProcess | None:
        return self.source._asking.worker

    def begin_reset(self, logic_id: int, *mates: int, codes: tuple[str, ...] = ()) -> list[Ended]:
        """The list gets how it ended, when it has."""
        ended: list[Ended] = []
        ring = tuple(sorted({logic_id, *mates}))
        self.source.reset(
            Reset(logic_id, ring, codes),
            lambda outcome, why: ended.append((outcome, why)),
            time.monotonic(),
        )
        return ended

    def reset(self, logic_id: int, *mates: int, codes: tuple[str, ...] = ()) -> Ended:
        ended = self.begin_reset(logic_id, *mates, codes=codes)
        self.run(lambda: bool(ended))
        return ended[0]

    def with_npu_smi(self) -> None:
        write_script(self.smi, answering())

    def children(self) -> list[int]:
        return self._children.pids()

    def close(self) -> None:
        self.source.close()
        self.selector.close()
        self._children.end()
