# SPDX-License-Identifier: MulanPSL-2.0
"""A bundle is imported while the same model is fetched: neither hurts the other."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.errors import AgentError, Code
from agent.supplies import Item, Progress, Stage
from agent.supply.bundle.bring import Imported
from agent.supply.disk import only_one
from agent.supply.place import Home, list_revisions, remove_revision, switch_to

from .bundle_scene import Scene, podman_in
from .hubs import Bringing

pytestmark = pytest.mark.timeout(60)
ROUNDS = 5


@pytest.fixture
def scene(tmp_path: Path, bringing: Bringing) -> Scene:
    """A bundle with the model of the hub, as another machine has fetched it from there."""
    made = Scene(tmp_path)
    podman_in(made.root / "maker")
    podman_in(made.root / "host")
    Bringing(bringing.hub, bringing.root, made.model.parent).bring()
    made.create(image="", part_bytes=2**20)
    bringing.models = made.models_dir
    return made


def once(at: Callable[[Progress], bool], act: Callable[[], object]) -> Callable[[Progress], None]:
    """Told of a progress, it does something else in between, the first time."""
    done: list[bool] = []

    def tell(progress: Progress) -> None:
        if at(progress) and not done:
            done.append(True)
            act()

    return tell


def assert_one(bringing: Bringing) -> None:
    """One revision, whole, in use; and nothing is left over."""
    (found,) = list_revisions(str(bringing.link))
    assert found.in_use
    bringing.assert_whole(found.manifest)
    assert os.listdir(bringing.models / ".store/small") == [found.name]
    assert [one for one in (bringing.models / ".incoming").iterdir() if one.is_dir()] == []


def test_an_import_overtakes_a_fetch(scene: Scene, bringing: Bringing) -> None:
    """Somebody carries a disk there because the line is slow: it does not wait for the fetch."""
    brought: list[Imported] = []
    fetching = once(
        lambda told: told.stage is Stage.FETCHING, lambda: brought.append(scene.bring())
    )
    bringing.bring(tell=fetching)
    assert [one.model_brought for one in brought] == [True]
    assert_one(bringing)


def test_a_fetch_overtakes_an_import(scene: Scene, bringing: Bringing) -> None:
    scene.told = Telling(once(lambda told: told.item is Item.MODEL, bringing.bring))
    assert scene.bring().model_brought
    assert_one(bringing)


class Telling(list[Progress]):
    """Stands where a scene collects what it is told."""

    def __init__(self, tell: Callable[[Progress], None]) -> None:
        super().__init__()
        self._tell = tell

    def append(self, progress: Progress) -> None:
        self._tell(progress)


def test_both_at_once(scene: Scene, bringing: Bringing) -> None:
    """Each round with another delay, so that they meet at other places."""
    with ThreadPoolExecutor(2) as threads:
        for number in range(ROUNDS):
            bringing.models = scene.root / f"host-{number}"
            fetch = threads.submit(bringing.bring)
            time.sleep(0.05 * number)
            scene.bring(models_dir=bringing.models)
            fetch.result()
            assert_one(bringing)


def test_what_is_being_placed_is_no_leftover(scene: Scene, bringing: Bringing) -> None:
    """A fetch that begins removes what a placing has left, but not of one that is at it."""
    scene.bring()
    home = Home(str(bringing.link))
    half = home.store / ".other.new"
    half.mkdir()
    tidying = threading.Thread(target=home.tidy)
    with only_one(home.placing, "place it"):
        tidying.start()
        tidying.join(0.5)
        assert half.is_dir()
    tidying.join()
    assert not half.exists()


def test_nothing_is_seen_while_another_places(scene: Scene, bringing: Bringing) -> None:
    home = Home(str(bringing.link))
    home.prepare()
    with ThreadPoolExecutor(1) as threads:
        with only_one(home.placing, "place it"):
            bringing_it = threads.submit(scene.bring)
            while not list(home.parent.glob(".incoming/.bundle-8b/model/*.safetensors")):
                time.sleep(0.01)
            time.sleep(0.5)
            assert not os.path.lexists(home.link)
        assert bringing_it.result().model_brought
    assert_one(bringing)


def test_no_link_to_what_was_removed(scene: Scene, bringing: Bringing) -> None:
    """It was pruned between the look and the link."""
    scene.bring()
    bringing.link.unlink()
    (found,) = list_revisions(str(bringing.link))
    remove_revision(str(bringing.link), found.name)
    with pytest.raises(AgentError) as raised:
        switch_to(Home(str(bringing.link)), found.name)
    assert raised.value.failure.code is Code.MODEL_MISSING
    assert not os.path.lexists(bringing.link)


def test_an_operators_link_is_left_alone(scene: Scene, bringing: Bringing) -> None:
    """As to an NFS mount: it is not ours, though it is a link."""
    (scene.root / "nfs").mkdir()
    bringing.models.mkdir(exist_ok=True)
    bringing.link.symlink_to(scene.root / "nfs")
    with pytest.raises(AgentError) as raised:
        scene.bring()
    assert raised.value.failure.code is Code.MODEL_INVALID
    assert os.readlink(bringing.link) == str(scene.root / "nfs")
    assert not list(bringing.models.rglob("*.safetensors"))
