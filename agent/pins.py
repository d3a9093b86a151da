# SPDX-License-Identifier: MulanPSL-2.0
"""What a bundle that a person imports is to instances that are pinned to what they run on
(docs/supply.md): they go on with that, and the person is told how to have the new one tried."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.config.values import Config, Profile
from agent.errors import Code
from agent.language import tr
from agent.status.snapshot import InstanceView
from agent.supplies import Supply
from agent.supply.bundle.format import Bundle
from agent.supply.hub.listing import COMMIT
from agent.supply.manifest import sort_files
from agent.supply.model import folder_of
from agent.supply.place import Home
from agent.wording import say_supply

# An instance that lacks these takes whatever is brought.
LACKS = (Code.IMAGE_MISSING, Code.MODEL_MISSING, Code.MODEL_INVALID)


@dataclass(frozen=True, slots=True)
class Carried:
    """A bundle on a host. `instances`: as the agent shows them; none where no agent answers."""

    bundle: Bundle
    models_dir: Path
    config: Config
    instances: tuple[InstanceView, ...]

    @property
    def is_pinned(self) -> bool:
        """Whether the model's link is to stay where it leads: else an engine that dies is started
        on what was never tried. Not where no update could take what is brought."""
        pins = [(view, _pin(view)) for view in self.instances]
        pinned = [view for view, pin in pins if pin is not None and self._is_of_model(pin)]
        return pinned != [] and all(self._revision_for(view) for view in pinned)

    def say_pinned(self) -> Iterator[str]:
        """After the import."""
        for view in self.instances:
            pin = _pin(view)
            if pin is not None and (words := self._say(view.name, pin, self._revision_for(view))):
                yield words

    def _say(self, name: str, pin: Supply, revision: str) -> str:
        """Empty when it runs on what was brought, or on something else altogether. `revision`: by
        which an update finds the model; empty: by none."""
        image, model, options = self.bundle.image, self.bundle.model, []
        if image is not None and image.reference == pin.image_reference != "":
            options = [f"--image {image.image_id}"] if image.image_id != pin.image_id else []
        if model is not None and self._is_of_model(pin):
            brought = folder_of(pin.model_directory, sort_files(model.manifest))
            if brought not in ("", pin.model_revision):
                if Home(pin.model_directory).linked() == brought and not revision:
                    return tr(
                        "{name} takes the model with its next start, without a trial: {command}",
                        name=name,
                        command=f"deepseekctl restart {name}",
                    )
                if revision:
                    # By its id an image is not looked for in a registry.
                    options = options or [f"--image {pin.image_id}"]
                    options.append(f"--revision {revision}")
        if not options:
            return ""
        return tr(
            "{name} goes on with {what}; to try what was brought: {command}",
            name=name,
            what=say_supply(pin),
            command=f"deepseekctl update {name} {' '.join(options)}",
        )

    def _is_of_model(self, pin: Supply) -> bool:
        """Whether it is a revision of the bundle's model."""
        model = self.bundle.model
        wanted = "" if model is None else str(self.models_dir / model.directory)
        return pin.model_directory == wanted and pin.model_revision != ""

    def _revision_for(self, view: InstanceView) -> str:
        """As `deepseekctl update --revision` finds it in the store, without a network; empty: it
        does not."""
        profile, model = self.config.profile(view.name), self.bundle.model
        if not isinstance(profile, Profile) or model is None:
            return ""
        repo, revision = model.manifest.repo, model.manifest.revision
        known = COMMIT.fullmatch(revision) and repo in {one.repo for one in profile.sources}
        return revision if known else ""


def _pin(view: InstanceView) -> Supply | None:
    """What it goes on with; the agent sees to that."""
    if view.failure is not None and view.failure.code in LACKS:
        return None
    update = view.update
    return None if update is None else update.trial or update.current
