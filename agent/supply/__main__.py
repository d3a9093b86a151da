# SPDX-License-Identifier: MulanPSL-2.0
"""`supply fetch|switch INSTANCE`: carries out the order that the agent has written for it.
`supply prune`: removes what is ours and nobody uses. `supply verify DIRECTORY`: reads a model.

In: /run/deepseek-agent/supply/INSTANCE.order.json (INSTANCE@switch.order.json),
/run/deepseek-agent/prune/order.json. Out, beside it: the progress, and in the end the report. Exit
status 0 when there is a report, whatever it says: the agent reads it.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from agent.disks import Removal
from agent.errors import AgentError
from agent.model import is_instance_name
from agent.notify import notify
from agent.supplies import Order, Progress, Report, letter_stem
from agent.supply.errand import carry_out
from agent.supply.letters import (
    read_order,
    remove_progress,
    take_prune_order,
    write_progress,
    write_prune_report,
    write_report,
)
from agent.supply.stored_images import note_report
from agent.terminal import ProgressLine, run_command
from agent.wording import describe_progress

FOLDER = Path("/run/deepseek-agent/supply")
PRUNE_FOLDER = Path("/run/deepseek-agent/prune")
EXIT_FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    match list(sys.argv[1:] if arguments is None else arguments):
        case ["fetch" | "switch" as verb, instance]:  # as its unit calls it: without argparse
            return _carry_out(instance, FOLDER, switches=verb == "switch")
        case words:
            return _run_words(words)


def _run_words(words: Sequence[str]) -> int:
    import argparse

    parser = argparse.ArgumentParser(prog="supply", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for verb, text in (
        ("fetch", "what the agent has ordered for an instance"),
        ("switch", "which image and model an instance finds at its next start"),
    ):
        one = commands.add_parser(verb, help=text)
        one.add_argument("instance")
        one.add_argument("--folder", type=Path, default=FOLDER, help=argparse.SUPPRESS)
        switches = partial(_carry_out, switches=verb == "switch")
        one.set_defaults(run=lambda it, carry_out=switches: carry_out(it.instance, it.folder))
    prune = commands.add_parser("prune", help="what nobody uses, as the agent has ordered")
    prune.add_argument("--folder", type=Path, default=PRUNE_FOLDER, help=argparse.SUPPRESS)
    prune.set_defaults(run=lambda it: _prune(it.folder))
    verify = commands.add_parser("verify", help="every byte of a model against its manifest")
    verify.add_argument("directory")
    verify.set_defaults(run=lambda it: _verify(Path(it.directory)))
    options = parser.parse_args(words)
    status: int = options.run(options)
    return status


def _verify(folder: Path) -> int:
    """For a person; changes nothing."""
    from agent.supply.check import check_model

    line = ProgressLine(sys.stderr)

    def command() -> int:
        try:
            checked = check_model(folder, line.show)
        finally:
            line.end()
        sys.stdout.write(f"{folder}: {checked}\n")
        return 0

    return run_command(command, lambda code: EXIT_FAILED)


def _carry_out(instance: str, folder: Path, *, switches: bool) -> int:
    if not is_instance_name(instance):
        sys.stderr.write(f"supply: {instance!r} is no name of an instance\n")
        return EXIT_FAILED
    stem = letter_stem(instance, switches=switches)

    def tell(progress: Progress) -> None:
        with suppress(OSError):  # a full /run ends nothing that takes hours
            write_progress(folder, stem, progress)
        notify(f"STATUS={describe_progress(progress)}")

    try:
        order = read_order(folder, stem)
        report = carry_out(order, tell)
        _note_brought(order, report)
        _report(folder, stem, report)
    except (AgentError, OSError, ValueError) as error:
        sys.stderr.write(f"supply: {error}\n")
        return EXIT_FAILED
    if report.failure is not None:
        sys.stderr.write(f"supply: {report.failure.message} [{report.failure.code}]\n")
    return 0


def _report(folder: Path, stem: str, report: Report) -> None:
    """Where /run is full it takes the room of the progress, which nobody reads any more."""
    try:
        write_report(folder, stem, report)
    except OSError:
        remove_progress(folder, stem)
        write_report(folder, stem, report)


def _note_brought(order: Order, report: Report) -> None:
    """Without it the image is taken for somebody else's, and never pruned."""
    try:
        note_report(order, report)
    except OSError as error:
        sys.stderr.write(f"supply: cannot note that the image was brought: {error}\n")


def _prune(folder: Path) -> int:
    from agent.supply.prune import carry_out_pruning

    try:
        report = carry_out_pruning(take_prune_order(folder), _say_removed)
        write_prune_report(folder, report)
    except (AgentError, OSError, ValueError) as error:
        sys.stderr.write(f"supply: {error}\n")
        return EXIT_FAILED
    for failure in report.failures:
        sys.stderr.write(f"supply: {failure.message} [{failure.code}]\n")
    return 0


def _say_removed(removal: Removal) -> None:
    """For the journal, where it stays."""
    sys.stdout.write(f"removed {removal.kind} {removal.name}: {removal.why}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
