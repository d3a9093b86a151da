# SPDX-License-Identifier: MulanPSL-2.0
"""A program that calls libdcmi as it is told: JSON lines in, answers and fault events out.

usage: client.py LIBRARY
A word of a call is a number, or "KIND" or "KIND COUNT" for what the library is to fill in:
["get_device_health", 3, 0, "uint"] is answered by {"result": 0, "out": [2]}.
["subscribe", CARD, DEVICE, FLAG, CODE, SEVERITY, NODE_TYPE]; then {"event": {...}}, when it comes.
["become", UID] makes it a program of that user.
"""

import ctypes
import json
import os
import sys
from ctypes import Array, Structure, c_char, c_int, c_ubyte, c_uint, c_ulong, c_ulonglong, c_ushort
from typing import Any

NO_SUCH_FUNCTION = -99998


class ChipInfo(Structure):
    _fields_ = (
        ("type", c_char * 32),
        ("name", c_char * 32),
        ("version", c_char * 32),
        ("aicores", c_uint),
        ("npu_name", c_char * 32),
    )


class Hbm(Structure):
    _fields_ = (
        ("size", c_ulonglong),
        ("freq", c_uint),
        ("used", c_ulonglong),
        ("temp", c_int),
        ("bandwidth", c_uint),
    )


class Memory(Structure):
    _fields_ = (
        ("size", c_ulonglong),
        ("available", c_ulonglong),
        ("freq", c_uint),
        ("page_kb", c_ulong),
        ("pages", c_ulong),
        ("pages_free", c_ulong),
        ("utilization", c_uint),
        ("reserve", c_ubyte * 60),
    )


class Process(Structure):
    _fields_ = (("pid", c_int), ("used", c_ulong))


class Filter(Structure):
    _fields_ = (
        ("flag", c_ulonglong),
        ("code", c_uint),
        ("severity", c_ubyte),
        ("node_type", c_ubyte),
        ("reserve", c_ubyte * 32),
    )


class Fault(Structure):
    _fields_ = (
        ("code", c_uint),
        ("device", c_ushort),
        ("node_type", c_ubyte),
        ("node_id", c_ubyte),
        ("sub_type", c_ubyte),
        ("sub_id", c_ubyte),
        ("severity", c_ubyte),
        ("assertion", c_ubyte),
        ("serial", c_int),
        ("notice", c_int),
        ("raised_ms", c_ulonglong),
        ("name", c_char * 256),
    )


class Event(Structure):
    _fields_ = (("type", c_int), ("fault", Fault))


KINDS: dict[str, Any] = {
    "byte": c_ubyte,
    "int": c_int,
    "uint": c_uint,
    "text": c_char,
    "chip": ChipInfo,
    "hbm": Hbm,
    "memory": Memory,
    "process": Process,
}
Handler = ctypes.CFUNCTYPE(None, ctypes.POINTER(Event))


def plain(value: Any) -> Any:
    """As JSON can have it."""
    if isinstance(value, Structure):
        return {name: plain(getattr(value, name)) for name, *_ in value._fields_}
    if isinstance(value, bytes):
        return value.decode()
    return [plain(one) for one in value] if isinstance(value, Array) else value


def filled(buffer: Any) -> Any:
    """A text, one value, or a list of more."""
    if buffer._type_ is c_char:
        return buffer.value.decode()
    values = plain(buffer)
    return values[0] if len(values) == 1 else values


def say(**message: Any) -> None:
    """One write: the thread of the library says something, too."""
    os.write(1, json.dumps(message).encode() + b"\n")


def take_event(event: Any) -> None:
    say(event=plain(event.contents.fault) | {"type": event.contents.type})


HANDLER = Handler(take_event)  # lives as long as the library may call it


def call(library: Any, name: str, words: list[Any]) -> None:
    function = getattr(library, f"dcmi_{name}", None)
    if function is None:
        say(result=NO_SUCH_FUNCTION)
        return
    buffers: list[Any] = []
    arguments: list[Any] = []
    for word in words:
        if isinstance(word, str):
            kind, _, count = word.partition(" ")
            buffers.append((KINDS[kind] * int(count or 1))())
            arguments.append(buffers[-1])
        else:
            arguments.append(c_uint(word) if word > 0x7FFFFFFF else c_int(word))
    result = function(*arguments)
    say(result=result, out=[filled(buffer) for buffer in buffers])


def subscribe(library: Any, card: int, device: int, *wanted: int) -> None:
    function = library.dcmi_subscribe_fault_event
    function.argtypes = (c_int, c_int, Filter, Handler)
    say(result=function(card, device, Filter(*wanted), HANDLER))


def main(path: str) -> None:
    library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    for line in sys.stdin:
        name, *words = json.loads(line)
        if name == "subscribe":
            subscribe(library, *words)
        elif name == "become":
            os.setuid(*words)
        else:
            call(library, name, words)


if __name__ == "__main__":
    main(sys.argv[1])
