# SPDX-License-Identifier: MulanPSL-2.0
"""Images through Podman's API socket: pull, load, tag, list, remove. A short-lived process of
`supply/`.

Runs as `python -m agent.host.images VERB`; in: one JSON object on standard input (what is secret
is in files, and in no argument). Out: JSON lines, any number of `{"progress": {...}}` and in the
end `{"answer": {...}}` (of one image: image_id, digest) or `{"error": {code, message, hint}}`. Who
runs it ends it when it says nothing for too long: that closes the connection, and Podman then drops
the pull (5.4.2, seen). Podman keeps the layers that it had unpacked, and fetches only the others
the next time.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

from podman import PodmanClient
from podman.errors import APIError, PodmanError
from requests.exceptions import RequestException

from agent.errors import AgentError, Code, Failure
from agent.host.arrival import Arrival
from agent.host.image_list import list_images, remove_image
from agent.host.image_load import load
from agent.host.image_space import (
    Places,
    find_places,
    needs_of_load,
    needs_of_pull,
    read_present,
    why_no_room_to_load,
    why_too_full,
)
from agent.host.image_sync import sync_storage
from agent.host.image_whole import find, find_brought, is_there, missing
from agent.host.layers import Layers
from agent.host.podman.api import CALL_TIMEOUT_S, SOCKET, explain
from agent.host.podman_folder import remove_left
from agent.host.proxies import HINT as PROXY_HINT
from agent.host.proxies import lacks_proxy, read_podman_proxies
from agent.host.pull_failures import explain_pull, shorten
from agent.host.registry import read_digest, read_layers
from agent.host.registry_access import read_credentials, trusted_ca
from agent.json_text import load_json
from agent.references import Reference, parse_reference
from agent.supplies import ImageSource, Stage

# Podman says nothing while it unpacks the last layers of an image; who runs us has a limit for
# silence that knows what is being done.
PULL_TIMEOUT_S = 7200
NOT_FOUND = 404


def say(**line: object) -> None:
    """One line, at once."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def pull(client: PodmanClient, order: Mapping[str, Any]) -> Mapping[str, object]:
    """Brings it from one source. Raises AgentError."""
    source = ImageSource(**order["source"])
    reference = _parse(source.reference)
    is_new_name = not is_there(client, str(reference))
    credentials = read_credentials(source.auth_file, reference)
    known = read_layers(source, reference, credentials)
    places = _places(client)
    present = read_present(places.storage)
    if known and (full := why_too_full(known, present, places, order["keep_free_mib"])):
        raise _error(full)
    layers = Layers(known, present)
    arrival = Arrival(layers, places.temporary, _say_progress)
    parameters = {
        "reference": str(reference),
        "policy": "always",
        "tlsVerify": str(source.tls_verify).lower(),
        "compatMode": "true",
    }
    headers = {"X-Registry-Auth": credentials.header} if credentials else {}
    with (
        trusted_ca(reference.registry, source.ca_file),
        arrival.watched(),
        closing(_ask_for(client, parameters, headers)) as response,
    ):
        for line in response.iter_lines():
            _take(line, arrival, reference.registry)
    _say_progress(Stage.PLACING, layers.total, layers.total)
    sync_storage(places.storage)
    return {**find_brought(client, str(reference)), "is_new_name": is_new_name}


def _ask_for(
    client: PodmanClient, parameters: Mapping[str, str], headers: Mapping[str, str]
) -> Any:
    return client.api.post(
        "/images/pull", params=parameters, headers=headers, stream=True, timeout=PULL_TIMEOUT_S
    )


def _say_progress(stage: Stage, done: int, total: int) -> None:
    say(progress={"stage": stage, "done": done, "total": total})


def _take(raw: bytes, arrival: Arrival, registry: str) -> None:
    line = load_json(raw)
    if not isinstance(line, dict):
        return
    # "message" alone: of a pull that broke before its first byte (pkg/api/handlers/utils, 5.4.2).
    error = line.get("error") or line.get("errorDetail") or line.get("message")
    if error:
        text = error.get("message") if isinstance(error, dict) else error
        raise _error(_explain(registry, str(text)))
    arrival.take(line)


def _explain(registry: str, text: str) -> Failure:
    failure = explain_pull(registry, text)
    if failure.code is Code.SOURCE_UNREACHABLE:
        podman = read_podman_proxies()
        if podman is not None and lacks_proxy(registry, os.environ, podman):
            return replace(failure, hint=PROXY_HINT)
    return failure


def tag(client: PodmanClient, order: Mapping[str, Any]) -> Mapping[str, str]:
    """Gives an image the name by which it was ordered."""
    reference = _parse(order["reference"])
    image_id = str(order["image_id"])
    response = client.api.post(
        f"/images/{image_id}/tag",
        params={"repo": reference.name, "tag": reference.given_tag},
        timeout=CALL_TIMEOUT_S,
    )
    if response.status_code == NOT_FOUND:
        raise missing(image_id)
    response.raise_for_status()
    return find(client, image_id)


def find_one(client: PodmanClient, order: Mapping[str, Any]) -> Mapping[str, str]:
    """What a name means now."""
    return find(client, str(order["reference"]))


def untag(client: PodmanClient, order: Mapping[str, Any]) -> Mapping[str, str]:
    """Takes a name away; the image stays. One that nothing has is no error."""
    reference = _parse(order["reference"])
    response = client.api.post(
        f"/images/{reference}/untag",
        params={"repo": reference.name, "tag": reference.tag},
        timeout=CALL_TIMEOUT_S,
    )
    if response.status_code != NOT_FOUND:
        response.raise_for_status()
    return {"image_id": str(reference), "digest": ""}


def load_archive(client: PodmanClient, order: Mapping[str, Any]) -> Mapping[str, str]:
    """One image out of an archive. It has no digest of a registry's manifest."""
    archive, places = order["archive"], _places(client)
    size, packed = archive["size"], archive["is_packed"]
    if full := why_no_room_to_load(size, archive["kind"], packed, places, order["keep_free_mib"]):
        raise _error(full)
    image_id = load(
        archive["path"],
        archive["kind"],
        archive["selector"],
        places.temporary,
        lambda done, total: _say_progress(Stage.PLACING, done, total),
    )
    sync_storage(places.storage)
    found = find_brought(client, image_id)
    _drop_name_of_file(client, image_id)
    return {**found, "digest": ""}


def _drop_name_of_file(client: PodmanClient, image_id: str) -> None:
    """Podman 4.3.1 names what comes from an OCI layout after its path; ours is below /proc."""
    for name in client.images.get(image_id).tags:
        repository, _, tag_name = name.rpartition(":")
        if repository.startswith("localhost/") and "/fd/" in repository:
            client.api.post(
                f"/images/{image_id}/untag",
                params={"repo": repository, "tag": tag_name},
                timeout=CALL_TIMEOUT_S,
            ).raise_for_status()


def measure(client: PodmanClient, order: Mapping[str, Any]) -> Mapping[str, object]:
    """Bytes by place that a pull or a load would need; empty where nobody can tell."""
    places = _places(client)
    if archive := order.get("archive"):
        needs = needs_of_load(archive["size"], archive["kind"], archive["is_packed"], places)
    else:
        source = ImageSource(**order["source"])
        reference = _parse(source.reference)
        credentials = read_credentials(source.auth_file, reference)
        known = read_layers(source, reference, credentials) or ()
        needs = needs_of_pull(known, read_present(places.storage), places)
    summed: dict[str, int] = {}
    for place, size in needs:
        summed[place] = summed.get(place, 0) + int(size)
    return {"needs": summed}


def tell_digest(client: PodmanClient, order: Mapping[str, Any]) -> Mapping[str, object]:
    """Of what a source has for an architecture."""
    source = ImageSource(**order["source"])
    reference = _parse(source.reference)
    credentials = read_credentials(source.auth_file, reference)
    return {"digest": read_digest(source, reference, credentials, str(order["architecture"]))}


def listed(client: PodmanClient, order: Mapping[str, Any]) -> Mapping[str, object]:
    """All images, who uses each, and where Podman keeps them."""
    return {"images": list_images(client.api), "storage": find_places(client.info()).storage}


def remove(client: PodmanClient, order: Mapping[str, Any]) -> Mapping[str, object]:
    remove_image(client.api, str(order["image_id"]), order["names"])
    return {}


VERBS: Mapping[str, Callable[[PodmanClient, Mapping[str, Any]], Mapping[str, object]]] = {
    "pull": pull,
    "tag": tag,
    "untag": untag,
    "find": find_one,
    "load": load_archive,
    "measure": measure,
    "digest": tell_digest,
    "list": listed,
    "remove": remove,
}


def _places(client: PodmanClient) -> Places:
    """With the room that is taken by what a cut has left of a load."""
    places = find_places(client.info())
    remove_left(places.temporary)
    return places


def _parse(text: str) -> Reference:
    reference = parse_reference(text)
    if reference is None:
        raise AgentError(Code.CONFIG_INVALID, f"cannot use {text!r}: it is no name of an image")
    return reference


def _error(failure: Failure) -> AgentError:
    return AgentError(failure.code, failure.message, failure.hint)


def main(argv: list[str] | None = None) -> int:
    """Does one verb and prints what comes of it."""
    parser = argparse.ArgumentParser(prog="agent.host.images")
    parser.add_argument("verb", choices=tuple(VERBS))
    parser.add_argument("--socket", default=SOCKET)
    options = parser.parse_args(argv)
    order = json.load(sys.stdin)
    # So that a certificate does not stay where Podman looks for it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        with PodmanClient(base_url=options.socket, timeout=CALL_TIMEOUT_S) as client:
            say(answer=VERBS[options.verb](client, order))
    except AgentError as error:
        failure = error.failure
        say(error={"code": failure.code, "message": failure.message, "hint": failure.hint})
    except (APIError, PodmanError, RequestException, OSError, KeyError, ValueError) as error:
        told = dict(explain(error))
        say(error={**told, "message": shorten(str(told["message"]))})
    return 0


if __name__ == "__main__":
    sys.exit(main())
