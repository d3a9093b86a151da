# SPDX-License-Identifier: MulanPSL-2.0
"""The forked process: requests come in over its socket, what libdcmi says goes out.

It has nothing but that socket and standard error, keeps no picture, and ends when npud does. The
one other thread in it belongs to libdcmi: it calls `_on_event`, which only sends. It gets to run
also while the main thread hangs in a vendor call, since ctypes lets the interpreter go for those.
"""

import ctypes
import os
import signal
import socket
import time

from agent.npud.dcmi import abi
from agent.npud.dcmi.calls import CallNote
from agent.npud.dcmi.library import CannotLoad, Library
from agent.npud.dcmi.link import MAX_INTEGER, MAX_LINE, clean, decode_request, encode
from agent.npud.dcmi.messages import (
    ChipKey,
    Done,
    FaultTold,
    Look,
    Ready,
    Refused,
    Request,
    ResetOrder,
    Started,
    Told,
    Unusable,
)
from agent.npud.dcmi.reader import DriverRefused, Reader
from agent.npud.dcmi.reset_work import reset

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)  # by npud; blocked at the fork
_PR_SET_PDEATHSIG = 1


def serve(path: str, link: socket.socket, note: CallNote, parent: int) -> None:
    """All that the forked process does; never returns into npud's code.

    (typing.NoReturn would cost npud half a MiB.)
    """
    status = 1
    try:
        _become_worker(link, parent)
        Worker(path, link, note).run()
        status = 0
    except ConnectionError:  # npud is gone, or does not want us any more
        status = 0
    except BaseException as error:
        os.write(2, f"<4>libdcmi worker failed error={type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(status)


def _become_worker(link: socket.socket, parent: int) -> None:
    signal.set_wakeup_fd(-1)
    for number in HANDLED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
    # npud's clients must see the end of npud, not that of the last copy of their connection.
    os.closerange(3, link.fileno())
    os.closerange(link.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)  # libdcmi prints
    os.close(null)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise ConnectionResetError


class Worker:
    def __init__(self, path: str, link: socket.socket, note: CallNote) -> None:
        self._path = path
        self._link = link
        self._note = note
        self._chips: tuple[ChipKey, ...] = ()
        self._callback = abi.Callback(self._on_event)  # must live as long as the subscription

    def run(self) -> None:
        """Returns when npud closes the link, or when libdcmi is of no use."""
        try:
            self._note.enter("dlopen", -1, -1)  # it runs what the library has to run at its start
            library = Library(self._path, self._note)
            self._note.leave()
        except CannotLoad as error:
            self._say(Unusable(clean(str(error))))
            return
        code = library.call("init")
        if code == abi.NOT_SUPPORTED:
            self._say(Unusable(f"dcmi_init: {abi.name_of_code(code)}"))
        elif code != abi.OK:
            self._say(Refused("dcmi_init", code))
        else:
            self._serve(library)

    def _serve(self, library: Library) -> None:
        reader = Reader(library)
        self._say(Ready())
        request = self._receive()
        if isinstance(request, Request):
            self._subscribe(library)
        while isinstance(request, Request):
            self._answer(reader, request)
            request = self._receive()
        if isinstance(request, ResetOrder):
            self._say(reset(reader, request))

    def _subscribe(self, library: Library) -> None:
        """Before the first look: libdcmi tells nothing that was before (facts: ascend 2)."""
        code = library.call(
            "subscribe_fault_event", abi.ALL, abi.ALL, abi.EventFilter(), self._callback
        )
        detail = "" if code == abi.OK else abi.name_of_code(code)
        self._say(Started(code == abi.OK, detail))

    def _answer(self, reader: Reader, request: Request) -> None:
        if request.look is Look.ALL and not self._list(reader, request):
            return
        keys = (request.chip,) if request.look is Look.CHIP else self._chips
        for key in keys:
            if key in request.leave_out or (key[0], -1) in request.leave_out:
                continue
            state = reader.read_state(key)
            self._say(state)
            if request.look is not Look.STATES and state.code != abi.DROPPED:
                self._say(reader.read_details(key))
        self._say(Done())

    def _list(self, reader: Reader, request: Request) -> bool:
        try:
            listed = reader.list_chips(request.leave_out)
        except DriverRefused as error:
            self._say(Refused(error.call, error.code))
            return False
        self._chips = tuple((card, chip) for card, chip, *_numbers in listed.chips)
        self._say(listed)
        return True

    def _receive(self) -> Request | ResetOrder | None:
        line = self._link.recv(MAX_LINE)
        return decode_request(line) if line else None

    def _say(self, message: Told) -> None:
        self._link.sendall(encode(message))

    def _on_event(self, told: "ctypes._Pointer[abi.Event]") -> None:
        """In libdcmi's thread. Never waits: an event that finds no room is seen by a later look."""
        came_at = time.monotonic()
        event = told.contents
        if event.type != abi.DMS_FAULT_EVENT:
            return
        fault = event.dms_event
        message = FaultTold(
            code=fault.event_id,
            logic_id=fault.deviceid,
            severity=fault.severity,
            assertion=fault.assertion,
            raised_ms=min(fault.alarm_raised_time, MAX_INTEGER - 1),
            text=clean(fault.event_name),
            came_at=came_at,
        )
        try:
            self._link.send(encode(message), socket.MSG_DONTWAIT)
        except OSError:
            return
