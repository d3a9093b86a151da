# SPDX-License-Identifier: MulanPSL-2.0
"""One image that Podman shall have: in comes a name, out come its id and digest.

One whose links were not on the disk at a power cut is there, and Podman answers 500 for it and for
lists with it in, also after a pull (podman#12337, podman#5986). That is the image's trouble, and
not Podman's; it is removed, so that the next try brings all of it.
"""

import time
from collections.abc import Mapping
from urllib.parse import quote

from podman import PodmanClient
from podman.errors import APIError, ImageNotFound

from agent.errors import AgentError, Code
from agent.host.image_damage import LOOK_AGAIN_S, is_damage, read_names
from agent.host.image_list import Api, list_images, remove_image
from agent.host.image_space import find_places
from agent.references import parse_reference

SERVER_ERROR = 500


def is_there(client: PodmanClient, name: str) -> bool:
    """Also when it cannot be read."""
    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    except APIError as error:
        if not error.is_server_error():
            raise
    return True


def find(client: PodmanClient, name: str) -> Mapping[str, str]:
    """Id and digest of an image that must be there."""
    try:
        attributes = client.images.get(name).attrs
    except ImageNotFound as error:
        raise missing(name) from error
    wanted = parse_reference(name)
    digests = [str(one) for one in attributes.get("RepoDigests") or ()]
    ours = [one for one in digests if wanted and one.startswith(f"{wanted.name}@")]
    return {
        "image_id": str(attributes["Id"]).removeprefix("sha256:"),
        "digest": (ours or digests or ["@"])[0].partition("@")[2],
    }


def find_brought(client: PodmanClient, name: str) -> Mapping[str, str]:
    """The same of one that was just brought; one that cannot be read is removed, and AgentError
    says so."""
    try:
        return find(client, name)
    except APIError as error:
        damaged = error.is_server_error() and is_damage(str(error))
        if not damaged or not _drop_unreadable(client, name):
            raise
        raise AgentError(
            Code.CONTENT_DAMAGED,
            f"cannot use {name}: Podman could not read what it had of it, and has removed it",
        ) from error


def missing(name: str) -> AgentError:
    return AgentError(Code.IMAGE_MISSING, f"cannot find {name}: Podman does not have it")


def _drop_unreadable(client: PodmanClient, name: str) -> bool:
    """False when it can be read by now. Raises what the API raises, also for one that a container
    uses, and when Podman does not answer anything else either."""
    api = client.api
    api.get("/containers/json").raise_for_status()
    time.sleep(LOOK_AGAIN_S)
    if api.get(f"/images/{quote(name, safe='')}/json").status_code < SERVER_ERROR:
        return False
    names = read_names(find_places(client.info()).storage, name)
    remove_image(api, name, names or _listed_names(api, name))
    return True


def _listed_names(api: Api, name: str) -> tuple[str, ...]:
    """With the last of them it goes. Where not even the list can be had, the one that is known."""
    try:
        rows = list_images(api)
    except APIError:
        return (name,)
    known = ((row["image_id"], row["names"]) for row in rows)
    found = (
        tuple(str(one) for one in names)
        for image_id, names in known
        if isinstance(names, list) and name in (image_id, *names)
    )
    return next(found, ()) or (name,)
