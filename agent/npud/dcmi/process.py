# SPDX-License-Identifier: MulanPSL-2.0
"""npud's end of a worker: forks it, sends to it, takes what it says, kills it. Never blocks."""

import gc
import os
import signal
import socket

from agent.npud.child import Kill
from agent.npud.dcmi.calls import CallNote
from agent.npud.dcmi.link import MAX_LINE, Garbage, decode, encode
from agent.npud.dcmi.messages import (
    Request,
    ResetOrder,
    Told,
)
from agent.npud.dcmi.worker import HANDLED, serve

MAX_MESSAGES_AT_ONCE = 64  # then the loop has its turn


def kill_process(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


class WorkerProcess:
    """One forked worker. A process that was killed may still be there: see `has_ended`."""

    def __init__(self, path: str, kill: Kill = kill_process) -> None:
        self._kill = kill
        self.note = CallNote()
        # Messages and not a stream: two threads send, and none may hold up the other.
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        # Before it has handlers of its own a signal to it would be written into npud's pipe.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        try:
            # What is here already stays untouched by later collections, so that both processes go
            # on sharing its pages (0.7 MiB).
            gc.collect()
            gc.freeze()
            self.pid = os.fork()
        except OSError:
            self.link.close()
            theirs.close()
            raise
        finally:
            if os.getpid() == parent:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if self.pid == 0:
            serve(path, theirs, self.note, parent)
        theirs.close()
        self.link.setblocking(False)
        self.ended = False
        self.exit_status = 0

    def send(self, request: Request | ResetOrder) -> None:
        """A worker that is gone is noticed by who waits for the answer."""
        try:
            self.link.send(encode(request))
        except OSError:
            return

    def receive(self) -> tuple[list[Told], bool]:
        """What it has said, and whether it may say more. Raises Garbage."""
        messages: list[Told] = []
        while len(messages) < MAX_MESSAGES_AT_ONCE:
            try:
                data = self.link.recv(MAX_LINE)
            except BlockingIOError:
                return messages, True
            except OSError:
                return messages, False
            if not data:
                return messages, False
            messages.append(_decode(data))
        return messages, True

    def has_ended(self) -> bool:
        if not self.ended:
            try:
                pid, self.exit_status = os.waitpid(self.pid, os.WNOHANG)
                self.ended = pid == self.pid
            except ChildProcessError:
                self.ended = True
        return self.ended

    def how_it_ended(self) -> str:
        if os.WIFSIGNALED(self.exit_status):
            return f"by signal {os.WTERMSIG(self.exit_status)}"
        return f"with status {os.waitstatus_to_exitcode(self.exit_status)}"

    def kill(self) -> None:
        if not self.has_ended():
            self._kill(self.pid)

    def close(self) -> None:
        """The link only; the note is read as long as the process is there."""
        self.link.close()


def _decode(data: bytes) -> Told:
    if not data.endswith(b"\n"):
        raise Garbage("a line without end")
    return decode(data)
