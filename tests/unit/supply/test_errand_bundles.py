# SPDX-License-Identifier: MulanPSL-2.0
"""A bundle in the import folder of an order: taken, and its list is read once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .bundle_scene import MODEL, Scene, content_of

pytestmark = pytest.mark.timeout(60)
TREE = Path(__file__).parents[3]
# What was checked has to be what is used, whoever swaps the list in between.
CARRY_OUT = """
import sys
from agent.supplies import ModelOrder, Order
from agent.supply.errand import carry_out
imports, directory = sys.argv[1:]
opened = []
def watch(event, arguments):
    if event == "open" and str(arguments[0]).endswith("deepseek-bundle.json"):
        opened.append(arguments[0])
sys.addaudithook(watch)
report = carry_out(
    Order("8b", None, ModelOrder(directory, ()), import_folder=imports), lambda progress: None
)
print(report.failure, report.model_revision, report.model_folder, len(opened))
"""


def test_its_list_is_read_once(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.prepare()
    scene.create(image="")
    directory = scene.models_dir / "small"
    done = subprocess.run(
        [sys.executable, "-c", CARRY_OUT, str(scene.output.parent), str(directory)],
        cwd=TREE,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["None", "abc123", "abc123", "1"]
    assert content_of(directory) == MODEL
    assert os.readlink(directory) == ".store/small/abc123"
