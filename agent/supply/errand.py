# SPDX-License-Identifier: MulanPSL-2.0
"""Carries out an order: bundles in the import folder first, then the model, then the image.

In: an `Order`. Out: a `Report`; what was brought is told in it even when something else failed.

A model is fetched for hours beside what serves, most often alone: what bundles and images take is
imported when there are any (docs/adr/0003).
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import assert_never

from agent.errors import AgentError, Code, Failure, Remedy
from agent.model import supply_unit, switch_unit
from agent.supplies import Order, Progress, Purpose, Report, kept_name
from agent.supply.bundle.find import find_bundles
from agent.supply.bundle.format import Bundle
from agent.supply.carried import Search
from agent.supply.folders import copy_model, find_model_folders
from agent.supply.manifest import sort_files
from agent.supply.mend import mend_model
from agent.supply.model import bring_model, folder_of, use_revision
from agent.supply.room import NO_IMAGE, ImageNeed
from agent.supply.signers import SIGNERS_FILE, require_none

Tell = Callable[[Progress], None]
# Where nothing is found, and nothing has gone wrong.
NOWHERE = (Code.IMAGE_MISSING, Code.MODEL_MISSING)


def carry_out(order: Order, tell: Tell, signers: Path = SIGNERS_FILE) -> Report:
    """Raises nothing: without a report the agent would not know what was brought."""
    errand = _Errand(order, tell, signers)
    try:
        errand.run()
    except Exception as error:  # the root of this process
        sys.excepthook(type(error), error, error.__traceback__)
        errand.fail(_internal(order, error))
    return errand.report()


def _internal(order: Order, error: Exception) -> Failure:
    """What it says may be anybody's, a secret too; the journal, which has it, is root's."""
    unit = switch_unit if order.purpose is Purpose.SWITCH else supply_unit
    return Failure(
        Code.INTERNAL,
        f"cannot bring what {order.instance} lacks: internal error: {type(error).__name__}",
        f"journalctl -b -u {unit(order.instance)}",
    )


class _Errand:
    """What is still missing of one order, and what came of the rest."""

    def __init__(self, order: Order, tell: Tell, signers: Path) -> None:
        self._order = order
        self._tell = tell
        self._signers = signers
        self._image = order.image
        self._model = order.model
        self._bundles: list[Failure] = []  # why one of them was of no use
        self._failures: list[Failure] = []
        self._report = Report(None)

    def run(self) -> None:
        purpose = self._order.purpose
        match purpose:
            case Purpose.BRING:
                self._look_for_bundles()
                self._look_for_folder()
                self._bring_model()
                self._bring_image()
            case Purpose.REFRESH:
                self._bring_model()
                self._refresh_image()
            case Purpose.SWITCH:
                self._switch()
            case _:
                assert_never(purpose)

    def fail(self, failure: Failure) -> None:
        self._failures.append(failure)

    def _look_for_bundles(self) -> None:
        if self._model is not None and self._model.recheck:
            return  # what of it is damaged is looked for there by `mend`, by its content
        for folder in find_bundles(Path(self._order.import_folder)):
            if self._image is None and self._model is None:
                return
            try:
                self._import(folder)
            except AgentError as error:
                self._bundles.append(error.failure)

    def _look_for_folder(self) -> None:
        """A model as it is, on a disk in the import folder: the first that is whole."""
        order, model = self._order, self._model
        if model is None or model.recheck:
            return
        imports = Path(order.import_folder)
        for folder in find_model_folders(imports, Path(model.directory).name):
            try:
                require_none(folder, self._signers)
                found = copy_model(
                    folder, model.directory, order.keep_free_mib, self._tell, within=imports
                )
                name = folder_of(model.directory, found)
            except AgentError as error:
                self._bundles.append(error.failure)
            else:
                self._has_model(found.revision, name, folder)
                return

    def _bring_model(self) -> None:
        order = self._order
        if self._model is None:
            return
        try:
            image = self._image_need(Path(self._model.directory))
            how = (self._model, order.parallel, order.keep_free_mib, self._tell)
            source = ""
            if self._model.recheck:
                search = Search(order.import_folder, self._bundles.append)
                mended = mend_model(*how, image=image, search=search)
                found, source = mended.manifest, mended.source
            else:
                switch = order.purpose is Purpose.BRING
                found = bring_model(*how, switch=switch, image=image)
            folder = folder_of(self._model.directory, found)
        except AgentError as error:
            self._failures.append(error.failure)
        else:
            self._has_model(found.revision, folder, source)

    def _image_need(self, directory: Path) -> ImageNeed:
        """Both have to fit where both go."""
        if self._image is None:
            return NO_IMAGE
        from agent.supply.image_room import bytes_beside, measure_image

        needs = measure_image(self._image, self._order.import_folder)
        return ImageNeed(self._image.reference, bytes_beside(directory, needs))

    def _bring_image(self) -> None:
        order = self._order
        if self._image is None:
            return
        from agent.supply.image import bring_image

        try:
            found = bring_image(
                self._image,
                order.import_folder,
                order.keep_free_mib,
                self._tell,
                signers=self._signers,
            )
        except AgentError as error:
            self._failures.append(error.failure)
        else:
            self._has_image(found.image_id, found.digest)

    def _refresh_image(self) -> None:
        if self._image is None:
            return
        from agent.supply.image import refresh_image

        try:
            found = refresh_image(self._image, self._order.keep_free_mib, self._tell)
        except AgentError as error:
            self._failures.append(error.failure)
        else:
            self._has_image(found.image_id, found.digest)

    def _switch(self) -> None:
        """The model first: without the names of the images a start comes to the same."""
        from agent.supply.image import keep_image

        order = self._order
        try:
            if order.model is not None:
                use_revision(order.model.directory, order.revision)
            for image in order.kept:
                keep_image(image, kept_name(order.instance, image.role))
        except AgentError as error:
            self._failures.append(error.failure)

    def report(self) -> Report:
        """Trouble with a bundle that was not needed in the end is none."""
        failure = why_not(self._failures, self._bundles) if self._failures else None
        return replace(self._report, failure=failure, at=time.time())

    def _import(self, folder: Path) -> None:
        """What is lacking: all else in the bundle may have been updated since, or be another's."""
        from agent.supply.bundle.bring import Target, import_opened
        from agent.supply.bundle.images import PodmanImages
        from agent.supply.bundle.opened import open_bundle

        models_dir = _models_dir(self._order)
        keep_free_mib = self._order.keep_free_mib
        target = Target(models_dir, PodmanImages(), keep_free_mib, self._signers)
        opened = open_bundle(folder, target.signers)
        bundle = opened.bundle
        wanted = replace(
            bundle,
            image=bundle.image if self._holds_image(bundle) else None,
            model=bundle.model if self._holds_model(bundle) else None,
        )
        if wanted.image is None and wanted.model is None:
            return
        import_opened(opened, target, self._tell, wanted)
        if wanted.image is not None:
            # Podman gives what it loads a manifest of its own, with another digest.
            self._has_image(wanted.image.image_id, "")
        if wanted.model is not None:
            manifest = sort_files(wanted.model.manifest)
            name = folder_of(str(models_dir / wanted.model.directory), manifest)
            self._has_model(manifest.revision, name, folder)

    def _holds_image(self, bundle: Bundle) -> bool:
        wanted, found = self._image, bundle.image
        return wanted is not None and found is not None and found.reference == wanted.reference

    def _holds_model(self, bundle: Bundle) -> bool:
        wanted, found = self._model, bundle.model
        name = Path(wanted.directory).name if wanted is not None else ""
        return found is not None and found.directory == name

    def _has_image(self, image_id: str, digest: str) -> None:
        self._image = None
        self._report = replace(self._report, image_id=image_id, image_digest=digest)

    def _has_model(self, revision: str, name: str, source: Path | str) -> None:
        self._model = None
        self._report = replace(
            self._report, model_revision=revision, model_folder=name, model_source=str(source)
        )


def _models_dir(order: Order) -> Path:
    """Where a model is put together it is linked into its store: on the same disk."""
    if order.model is None:
        return Path(order.models_dir)
    return Path(order.model.directory).parent


def why_not(failures: list[Failure], bundles: list[Failure]) -> Failure:
    """Of several the one that a person has to mend decides; bundles are told beside it, and decide
    where nothing else was tried."""
    failures = sorted(failures, key=lambda one: one.remedy is Remedy.RETRY)
    if bundles and failures[0].code in NOWHERE:
        failures = [*bundles, *failures[1:]]
    else:
        failures = [*failures, *bundles]
    first = failures[0]
    return Failure(first.code, "; ".join(one.message for one in failures), first.hint)
