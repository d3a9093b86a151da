# SPDX-License-Identifier: MulanPSL-2.0
"""Counts what some processes beget: new processes and threads, each told by the kernel itself
(proc connector: linux/cn_proc.h), so that none lives too short to be seen.
"""

import os
import select
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .process import LabError

NETLINK_CONNECTOR = 11  # linux/netlink.h
CN_IDX_PROC = CN_VAL_PROC = 1  # linux/connector.h
PROC_CN_MCAST_LISTEN = 1
PROC_EVENT_FORK = 1
NLMSG_DONE = 3
HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, pid
CONNECTOR = struct.Struct("=IIIIHH")  # struct cn_msg: idx, val, seq, ack, length, flags
EVENT = struct.Struct("=IIQ")  # struct proc_event: what, cpu, timestamp
FORK = struct.Struct("=IIII")  # of the parent and the child, each its pid and its tgid
EVENT_AT = HEADER.size + CONNECTOR.size
BUFFER_BYTES = 8 * 2**20
LOOK_S = 0.2


@dataclass
class Births:
    """`parents`: pids of the machine; their children and children's children count, too."""

    parents: set[int]
    processes: int = 0
    threads: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    lost: bool = False  # something may not have been heard

    def take(self, message: bytes) -> None:
        """What the kernel says of any process."""
        what, _, _ = EVENT.unpack_from(message, EVENT_AT)
        if what != PROC_EVENT_FORK:
            return
        _, parent, child, group = FORK.unpack_from(message, EVENT_AT + EVENT.size)
        if child != group:
            # Its parent is that of the process, who is not the one that has begun it.
            self.threads += group in self.parents
        elif parent in self.parents:
            self.processes += 1
            self.parents.add(child)

    def listen(self, connection: socket.socket) -> None:
        while not self.over.is_set():
            if not select.select([connection], [], [], LOOK_S)[0]:
                continue
            try:
                self.take(connection.recv(4096))
            except OSError:  # ENOBUFS
                self.lost = True


@contextmanager
def births(pids: Iterable[int]) -> Iterator[Births]:
    """Of these processes (pids of the machine), until the end of the block. Raises LabError when
    there may have been more."""
    seen = Births(set(pids))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_CONNECTOR) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        connection.bind((0, CN_IDX_PROC))
        order = struct.pack("=I", PROC_CN_MCAST_LISTEN)
        body = CONNECTOR.pack(CN_IDX_PROC, CN_VAL_PROC, 0, 0, len(order), 0) + order
        head = HEADER.pack(HEADER.size + len(body), NLMSG_DONE, 0, 0, os.getpid())
        connection.send(head + body)
        listener = threading.Thread(target=seen.listen, args=[connection])
        listener.start()
        try:
            yield seen
        finally:
            seen.over.set()
            listener.join()
    if seen.lost:
        raise LabError("more processes began than could be counted")
