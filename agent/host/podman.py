# SPDX-License-Identifier: MulanPSL-2.0
"""Podman through its API socket; the only importer of podman-py.

Runs as a short-lived process (`python -m agent.host.podman VERB ...`): podman-py is synchronous,
has no deadline of its own over a whole call, and would double the daemon's memory. Out: one JSON
object on standard output, `{"answer": ...}` or `{"error": {code, message, hint}}`.
`host/containers.py` is the other end.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from podman import PodmanClient
from podman.errors import APIError, ImageNotFound, NotFound, PodmanError
from requests.exceptions import Timeout

from agent.errors import Code
from agent.facts import parse_version
from agent.model import DEVICE_PREFIX

# Answered from Podman's own storage; more means that it hangs on its lock.
CALL_TIMEOUT_S = 10
# Answered when the container has stopped: its stop timeout is 40 s (render/workload.py).
REMOVE_TIMEOUT_S = 60
SOCKET = "unix:///run/podman/podman.sock"


def survey(client: PodmanClient, images: list[str]) -> Mapping[str, object]:
    """What `facts.PodmanSurvey` holds."""
    return {
        "version": _version(client),
        "images": [{"reference": one, "image_id": _image_id(client, one)} for one in images],
        "containers": [_container(client, row) for row in _rows(client)],
    }


def store(client: PodmanClient, images: list[str]) -> Mapping[str, object]:
    """What `facts.PodmanStore` holds."""
    told = client.info()
    kept = told.get("store") or {}
    return {
        "driver": str(kept.get("graphDriverName") or ""),
        "storage": str(kept.get("graphRoot") or ""),
        "temporary": str(kept.get("imageCopyTmpDir") or "/var/tmp"),  # noqa: S108 - Podman's
        "images": [
            {"reference": one, "architecture": _architecture(client, one)}
            for one in images
            if _image_id(client, one)
        ],
    }


def _architecture(client: PodmanClient, reference: str) -> str:
    try:
        return str(client.images.get(reference).attrs.get("Architecture") or "")
    except ImageNotFound:
        return ""


def remove(client: PodmanClient, name: str) -> None:
    """Removes a container by force, running or not; one that is not there is no error."""
    try:
        client.containers.get(name).remove(force=True)
    except NotFound:
        return


def _version(client: PodmanClient) -> tuple[int, int, int]:
    text = str(client.version()["Version"])
    version = parse_version(text)
    if version is None:
        raise ValueError(f"{text!r} is no version")
    return version


def _image_id(client: PodmanClient, reference: str) -> str:
    try:
        return str(client.images.get(reference).id).removeprefix("sha256:")
    except ImageNotFound:
        return ""


def _rows(client: PodmanClient) -> list[dict[str, object]]:
    """The list alone; containers.list() of podman-py inspects each one, and fails when one of them
    goes away in between."""
    response = client.api.get("/containers/json", params={"all": True})
    response.raise_for_status()
    rows: list[dict[str, object]] = response.json()
    return rows


def _container(client: PodmanClient, row: dict[str, object]) -> Mapping[str, object]:
    names = row.get("Names")
    labels = row.get("Labels")
    identity = str(row.get("Id", ""))
    running = row.get("State") == "running"
    inspected = _inspect(client, identity) if running else {}
    return {
        "name": str(names[0]) if isinstance(names, list) and names else "",
        "container_id": identity,
        "running": running,
        "unit": str(labels.get("PODMAN_SYSTEMD_UNIT", "")) if isinstance(labels, dict) else "",
        "devices": _devices(inspected),
        "address": _address(inspected),
    }


def _inspect(client: PodmanClient, identity: str) -> dict[str, dict[str, Any]]:
    """Gone meanwhile means nothing."""
    response = client.api.get(f"/containers/{identity}/json")
    if response.status_code == 404:
        return {}
    response.raise_for_status()
    inspected: dict[str, dict[str, Any]] = response.json()
    return inspected


def _devices(inspected: dict[str, dict[str, Any]]) -> list[str]:
    """Paths on the host of the devices that a container has."""
    devices = (inspected.get("HostConfig") or {}).get("Devices") or []
    return [_path(device) for device in devices]


def _address(inspected: dict[str, dict[str, Any]]) -> str:
    """Where the host reaches it without the rules of a published port."""
    networks = (inspected.get("NetworkSettings") or {}).get("Networks") or {}
    addresses = (
        one.get(family)
        for one in networks.values()
        for family in ("IPAddress", "GlobalIPv6Address")
    )
    return next((str(address) for address in addresses if address), "")


def _path(device: dict[str, object]) -> str:
    """Podman finds the name on the host by the device's numbers; where it found another device's,
    the name inside, which is the same for whoever did not rename it."""
    outside, inside = str(device["PathOnHost"]), str(device.get("PathInContainer", ""))
    return inside if DEVICE_PREFIX in inside and DEVICE_PREFIX not in outside else outside


def explain(error: Exception) -> Mapping[str, object]:
    """As a failure. podman-py has two roots, and tells a missing socket from a timeout only in
    `__cause__`."""
    cause = error.__cause__ or error
    silent = isinstance(cause, Timeout | TimeoutError)
    why = "it does not answer" if silent else f"{type(cause).__name__}: {cause}"
    return {
        "code": (Code.PODMAN_SILENT if silent else Code.PODMAN_UNAVAILABLE).value,
        "message": f"cannot ask Podman: {why}",
        "hint": "see: systemctl status podman.socket podman.service",
    }


def main(argv: list[str] | None = None) -> int:
    """Does one verb and prints the answer."""
    parser = argparse.ArgumentParser(prog="agent.host.podman")
    parser.add_argument("verb", choices=("survey", "store", "remove"))
    parser.add_argument("subjects", nargs="*", help="images to look for; a container to remove")
    parser.add_argument("--socket", default=SOCKET)
    options = parser.parse_args(argv)
    try:
        timeout_s = REMOVE_TIMEOUT_S if options.verb == "remove" else CALL_TIMEOUT_S
        with PodmanClient(base_url=options.socket, timeout=timeout_s) as client:
            answer: object = None
            if options.verb == "survey":
                answer = survey(client, options.subjects)
            elif options.verb == "store":
                answer = store(client, options.subjects)
            else:
                for name in options.subjects:
                    remove(client, name)
        json.dump({"answer": answer}, sys.stdout)
    except (APIError, PodmanError, OSError, KeyError, ValueError) as error:
        json.dump({"error": explain(error)}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
