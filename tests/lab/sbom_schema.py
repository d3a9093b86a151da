# SPDX-License-Identifier: MulanPSL-2.0
"""The JSON schema of CycloneDX 1.6, out of the wheel that tests/cyclonedx.lock names, and kept."""

import json
import zipfile
from pathlib import Path
from typing import Any

import jsonschema_rs

from .cache import build_key, ensure_built
from .process import run_command
from .vllm_env import PIP

LOCK = Path(__file__).resolve().parents[1] / "cyclonedx.lock"
INSIDE = "cyclonedx/schema/_res"
# The schema names the two others by these names.
SCHEMA = "bom-1.6.SNAPSHOT.schema.json"
OTHERS = ("jsf-0.82.SNAPSHOT.schema.json", "spdx.SNAPSHOT.schema.json")
BASE = "http://cyclonedx.org/schema"
PIP_LIMIT_S = 300


def ensure_schemas() -> Path:
    def build(target: Path) -> None:
        download = [*PIP, "download", "--quiet", "--no-deps", "--require-hashes"]
        run_command(
            [*download, "--only-binary=:all:", f"--dest={target}", f"--requirement={LOCK}"],
            timeout_s=PIP_LIMIT_S,
        )
        (wheel,) = target.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name in (SCHEMA, *OTHERS):
                (target / name).write_bytes(archive.read(f"{INSIDE}/{name}"))

    return ensure_built("cyclonedx", build_key(LOCK.read_bytes()), build)


def list_faults(document: Any) -> list[str]:
    """What the schema has against the document."""
    folder = ensure_schemas()
    schemas = {name: json.loads((folder / name).read_text()) for name in (SCHEMA, *OTHERS)}
    registry = jsonschema_rs.Registry([(f"{BASE}/{name}", schemas[name]) for name in OTHERS])
    validator = jsonschema_rs.validator_for(schemas[SCHEMA], registry=registry)
    return [str(error) for error in validator.iter_errors(document)]
