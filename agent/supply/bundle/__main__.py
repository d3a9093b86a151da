# SPDX-License-Identifier: MulanPSL-2.0
"""`bundle create`, `import` and `verify`: a process of its own behind deepseekctl.

In: arguments. Out: a folder, or image and model in place; progress on stderr, what became of it on
stdout. What an instance consists of is told by whoever knows the configuration.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from agent.errors import Code
from agent.language import tr
from agent.supplies import MODELS_DIR
from agent.supply.bundle.bring import ARCHITECTURES, Imported, Target, import_bundle
from agent.supply.bundle.create import Wanted, create
from agent.supply.bundle.format import BUNDLE_NAME, MAX_PART_BYTES, PART_BYTES, Bundle
from agent.supply.bundle.images import PodmanImages
from agent.supply.bundle.opened import open_bundle, verify
from agent.supply.signers import SIGNERS_FILE
from agent.terminal import ProgressLine, run_command

MIN_PART_BYTES = 2**20
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_SIZE = re.compile(r"([1-9][0-9]{0,12})([KMG]?)(?:iB)?", re.IGNORECASE)


def part_size(text: str) -> int:
    """ "2G", "512M". Raises ValueError, as argparse wants it."""
    matched = _SIZE.fullmatch(text)
    if matched is None:
        raise ValueError(text)
    size = int(matched[1]) * _UNITS[matched[2].upper()]
    size = MAX_PART_BYTES if size == MAX_PART_BYTES + 1 else size  # "4G" is meant kindly
    if not MIN_PART_BYTES <= size <= MAX_PART_BYTES:
        raise ValueError(text)
    return size


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deepseekctl bundle", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_create(commands.add_parser("create", help="image and model into a folder, to be carried"))
    bring = commands.add_parser("import", help="image and model out of a folder")
    bring.add_argument("folder", type=Path, metavar="DIR")
    bring.add_argument("--models-dir", type=Path, default=Path(MODELS_DIR))
    bring.add_argument("--keep-free-mib", type=int, default=0, metavar="MIB")
    bring.set_defaults(run=_import)
    check = commands.add_parser("verify", help="check everything in a folder; write nothing")
    check.add_argument("folder", type=Path, metavar="DIR")
    check.set_defaults(run=_verify)
    for command in (bring, check):
        command.add_argument("--signers", type=Path, default=SIGNERS_FILE, help="who may sign")
    return parser


def _add_create(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("instance")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--image", default="", metavar="REFERENCE")
    parser.add_argument("--image-id", default="", metavar="ID", help="of the image to take for it")
    parser.add_argument("--arch", default="", choices=tuple(ARCHITECTURES.values()))
    parser.add_argument("--product-line", default="", metavar="LINE")
    parser.add_argument("--model", type=Path, default=None, metavar="FOLDER")
    parser.add_argument("--sign", type=Path, default=None, metavar="KEY", help="an SSH key")
    parser.add_argument("--part-size", type=part_size, default=PART_BYTES, metavar="SIZE")
    parser.add_argument(
        "--check", action="store_true", help="read it back from the disk when it is written"
    )
    parser.set_defaults(run=_create)


def _create(wanted: argparse.Namespace, shown: ProgressLine) -> str:
    bundle = create(
        Wanted(
            instance=wanted.instance,
            image=wanted.image,
            product_line=wanted.product_line,
            model=wanted.model,
            output=wanted.output,
            part_bytes=wanted.part_size,
            key=wanted.sign,
            read_back=wanted.check,
            image_id=wanted.image_id,
            architecture=wanted.arch,
        ),
        PodmanImages(),
        shown.show,
    )
    signed = tr("signed") if wanted.sign else tr("not signed")
    return tr(
        "{file}: {bundle}, {signed}",
        file=wanted.output / BUNDLE_NAME,
        bundle=_describe(bundle),
        signed=signed,
    )


def _import(wanted: argparse.Namespace, shown: ProgressLine) -> str:
    target = Target(wanted.models_dir, PodmanImages(), wanted.keep_free_mib, wanted.signers)
    return describe_import(import_bundle(wanted.folder, target, shown.show), wanted.signers)


def _verify(wanted: argparse.Namespace, shown: ProgressLine) -> str:
    opened = open_bundle(wanted.folder, wanted.signers)
    verify(opened, shown.show)
    trust = _trust(opened.signer, wanted.signers)
    return tr("whole: {bundle}, {trust}", bundle=_describe(opened.bundle), trust=trust)


def describe_import(imported: Imported, signers: Path) -> str:
    """A line for the person and for the journal."""
    words = []
    if imported.bundle.image is not None:
        is_new = imported.image_brought
        words.append(tr("image brought") if is_new else tr("image was there already"))
    if imported.bundle.model is not None:
        is_new = imported.model_brought
        words.append(tr("model brought") if is_new else tr("model was there already"))
    return tr(", ").join(words) + tr("; ") + _trust(imported.signer, signers)


def _trust(signer: str, signers: Path) -> str:
    if signer:
        return tr("signed by {signer}", signer=signer)
    return tr("signature not checked: there is no {signers}", signers=signers)


def _describe(bundle: Bundle) -> str:
    image = bundle.image
    kind = tr(" for {architecture}", architecture=image.architecture) if image is not None else ""
    return tr(
        "bundle of {instance}{kind}, made {created}, {count} files, {gib:.2f} GiB",
        instance=bundle.instance,
        kind=kind,
        created=bundle.created,
        count=len(bundle.parts),
        gib=bundle.size / 2**30,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    wanted = build_parser().parse_args(arguments)
    shown = ProgressLine(sys.stderr)

    def command() -> int:
        try:
            line = wanted.run(wanted, shown)
        finally:
            shown.end()
        sys.stdout.write(f"{line}\n")
        return 0

    return run_command(command, _exit_status)


def _exit_status(_: Code) -> int:
    return 1


if __name__ == "__main__":
    sys.exit(main())
