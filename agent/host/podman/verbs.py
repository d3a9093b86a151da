# SPDX-License-Identifier: MulanPSL-2.0
"""What the process does with its arguments."""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from podman import PodmanClient
from podman.errors import APIError, ImageNotFound, NotFound, PodmanError
from requests import Response

from agent.facts import parse_version
from agent.host.image_damage import LOOK_AGAIN_S, is_damage
from agent.host.podman.api import CALL_TIMEOUT_S, SOCKET, explain
from agent.model import DEVICE_PREFIX
from agent.references import carried_name

# Answered when the container has stopped: its stop timeout is 40 s (render/workload.py).
REMOVE_TIMEOUT_S = 60


def survey(client: PodmanClient, images: list[str]) -> Mapping[str, object]:
    """What `facts.PodmanSurvey` holds."""
    listed = _list_containers(client)
    return {
        "version": _version(listed),
        "images": [{"reference": one, "image_id": _image_id(client, one)} for one in images],
        "containers": [_container(client, row) for row in listed.json()],
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
            {"reference": one, "architecture": _architecture(client, image_id)}
            for one in images
            if (image_id := _image_id(client, one))
        ],
    }


def _architecture(client: PodmanClient, image_id: str) -> str:
    try:
        return str(client.images.get(image_id).attrs.get("Architecture") or "")
    except ImageNotFound:
        return ""


def remove(client: PodmanClient, name: str) -> None:
    """Removes a container by force, running or not; one that is not there is no error."""
    try:
        client.containers.get(name).remove(force=True)
    except NotFound:
        return


def _version(answer: Response) -> tuple[int, int, int]:
    """Each answer names the version of libpod, which is Podman's (seen: 4.3.1, 5.4.2). To ask for
    /version takes 80 ms: Podman asks the package manager for the version of each of its tools."""
    text = answer.headers.get("Libpod-API-Version", "")
    version = parse_version(text)
    if version is None:
        raise ValueError(f"{text!r} is no version")
    return version


def _image_id(client: PodmanClient, reference: str) -> str:
    """Empty when it is not there or is damaged: it has to be brought again then, and is no trouble
    of Podman's, which would keep all models from being started. A momentary error is neither."""
    try:
        return _read_id(client, reference)
    except APIError as error:
        if not error.is_server_error():
            raise
    time.sleep(LOOK_AGAIN_S)
    try:
        return _read_id(client, reference)
    except APIError as error:
        if not error.is_server_error() or not is_damage(str(error)):
            raise
        return ""


def _read_id(client: PodmanClient, reference: str) -> str:
    for name in filter(None, (reference, carried_name(reference))):
        try:
            return str(client.images.get(name).id).removeprefix("sha256:")
        except ImageNotFound:
            continue
    return ""


def _list_containers(client: PodmanClient) -> Response:
    """The list alone; containers.list() of podman-py inspects each one, and fails when one of them
    goes away in between."""
    answer: Response = client.api.get("/containers/json", params={"all": True})
    answer.raise_for_status()
    return answer


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
