# SPDX-License-Identifier: MulanPSL-2.0
"""Starts npud: arguments come in, an exit status goes out. Touches signals and the log.

npud [--socket PATH] [--dcmi PATH] [--npu-smi PATH] [--dev DIR] [--interval SECONDS]

A --dcmi that does not exist leaves it to npu-smi.
"""

import os
import signal
import sys
from dataclasses import dataclass, replace
from selectors import EVENT_READ

from agent.npud.daemon import Daemon
from agent.npud.dcmi.abi import PLACES as DCMI_PLACES
from agent.npud.dcmi_source import Dcmi
from agent.npud.devices import IsDevice, is_character_device
from agent.npud.log import Log
from agent.npud.server import SocketTaken
from agent.npud.smi_run import PLACES
from agent.npud.smi_source import NpuSmi

EXIT_FAILED = 1
EXIT_USAGE = 2


@dataclass(frozen=True, slots=True)
class Options:
    socket: str = "/run/deepseek-agent/npu.sock"
    dcmi: tuple[str, ...] = DCMI_PLACES
    npu_smi: tuple[str, ...] = PLACES
    dev: str = "/dev"
    interval_s: float = 60.0


def parse_options(arguments: list[str]) -> Options:
    """Raises ValueError with what is wrong. (argparse would cost 0.3 MiB.)"""
    options = Options()
    words = iter(arguments)
    for word in words:
        name, _, value = word.partition("=")
        value = value or next(words, "")
        if not value:
            raise ValueError(f"{name} wants a value")
        options = _with_option(options, name, value)
    return options


def _with_option(options: Options, name: str, value: str) -> Options:
    match name:
        case "--socket":
            return replace(options, socket=value)
        case "--dcmi":
            return replace(options, dcmi=(value,))
        case "--npu-smi":
            return replace(options, npu_smi=(value,))
        case "--dev":
            return replace(options, dev=value.rstrip("/") or "/")
        case "--interval":
            return replace(options, interval_s=_seconds(value))
        case _:
            raise ValueError(f"unknown option {name}")


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86400:
        raise ValueError(f"--interval: {value} is not a number of seconds from 0.1 to 86400")
    return seconds


def main(arguments: list[str] | None = None, is_device: IsDevice = is_character_device) -> int:
    """`is_device` is for tests that have plain files for device nodes."""
    log = Log()
    try:
        options = parse_options(sys.argv[1:] if arguments is None else arguments)
    except ValueError as error:
        log.warning("cannot start", reason=error)
        return EXIT_USAGE
    try:
        _serve(options, is_device, log)
    except (OSError, SocketTaken) as error:
        log.warning("cannot serve", reason=error, socket=options.socket)
        return EXIT_FAILED
    return 0


def _serve(options: Options, is_device: IsDevice, log: Log) -> None:
    daemon = Daemon(
        socket_path=options.socket,
        folder=options.dev,
        is_device=is_device,
        interval_s=options.interval_s,
        log=log,
        make_source=lambda selector, on_account, on_news: Dcmi(
            selector,
            on_account,
            on_news,
            log,
            NpuSmi(selector, on_account, options.npu_smi, folder=options.dev),
            options.dcmi,
            folder=options.dev,
        ),
    )
    _handle_signals(daemon)
    daemon.run()


def _handle_signals(daemon: Daemon) -> None:
    """Signals become readable: a byte in a pipe ends the wait of the loop, at any moment."""
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def take(_mask: int) -> None:
        if any(number != signal.SIGCHLD for number in os.read(read_end, 512)):
            daemon.stop()

    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda _number, _frame: None)
    daemon.selector.register(read_end, EVENT_READ, take)


if __name__ == "__main__":
    sys.exit(main())
