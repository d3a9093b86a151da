# SPDX-License-Identifier: MulanPSL-2.0
"""What an image at a registry weighs, and which one is for an architecture: in comes a source, out
come its layers and their sizes, or a digest.

Podman tells the size of a layer when it begins to fetch it, six at a time, which is too late to say
that the disk is too small. So the manifest is read here too (OCI distribution spec 1.1, Docker's
token authentication). It is a question beside the pull, in which Podman alone decides: whatever
goes wrong here means that nothing is known (`None`), and stops nobody. An image for another
architecture is pulled by its digest, since by its name it would take the place of the one that this
host runs (as `podman pull --arch` does it); without the digest there is no pull.
"""

import hashlib
import platform
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from agent.errors import AgentError, Code
from agent.host.pull_failures import HINTS
from agent.host.registry_access import Credentials
from agent.json_text import load_json
from agent.references import DOCKER_HUB, Reference
from agent.supplies import ImageSource

DEADLINE_S = 10.0  # of connecting, and of each piece
BODY_LIMIT_BYTES = 4 * 1024 * 1024  # what registries take for a manifest at most
LARGEST = 1 << 50
MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
# As Go calls them, which is what an index says.
ARCHITECTURES = {"aarch64": "arm64", "x86_64": "amd64"}
_OF_STATUS = {
    401: Code.SOURCE_REFUSED,
    403: Code.SOURCE_REFUSED,
    404: Code.SOURCE_NOT_FOUND,
}
# All that comes of an answer that is none, or not what it should be.
TROUBLE = (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, LookupError, TypeError)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Layer:
    """A part of an image as it goes over the wire."""

    digest: str
    size: int


def read_layers(
    source: ImageSource, reference: Reference, credentials: Credentials | None
) -> tuple[Layer, ...] | None:
    """None when it cannot be told."""
    try:
        verify = trust(source.ca_file, tls_verify=source.tls_verify)
        with httpx.Client(verify=verify, timeout=DEADLINE_S) as client:
            asking = Asking(client, reference, credentials)
            schemes = ("https",) if source.tls_verify else ("https", "http")
            return next((found for one in schemes if (found := asking.layers(one))), None)
    except TROUBLE:
        return None


def read_digest(
    source: ImageSource, reference: Reference, credentials: Credentials | None, architecture: str
) -> str:
    """Of the manifest for `architecture` ("arm64"). Raises AgentError."""
    code = Code.SOURCE_UNREACHABLE
    try:
        with httpx.Client(
            verify=trust(source.ca_file, tls_verify=source.tls_verify), timeout=DEADLINE_S
        ) as client:
            return Asking(client, reference, credentials).digest(source, architecture)
    except _Status as error:
        code, why = _OF_STATUS.get(error.status, code), str(error)
    except _OtherArchitecture as error:
        code, why = Code.SOURCE_NOT_FOUND, str(error)
    except (httpx.HTTPError, OSError) as error:
        code = Code.SOURCE_UNTRUSTED if "CERTIFICATE_VERIFY" in str(error) else code
        why = str(error) or type(error).__name__
    except (httpx.InvalidURL, ValueError, LookupError, TypeError):
        why = "what the registry answers is no manifest"
    raise AgentError(code, f"cannot find {reference} for {architecture}: {why}", HINTS[code])


class _Status(ValueError):
    """An answer that is none of 200."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class _OtherArchitecture(LookupError):
    """The image is there, and not for the one that is asked for."""


def trust(ca_file: str, *, tls_verify: bool) -> ssl.SSLContext:
    """Raises OSError for a file that holds no certificate."""
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(ca_file)
    if not tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(frozen=True, slots=True)
class Asking:
    """One registry, about one image."""

    client: httpx.Client
    reference: Reference
    credentials: Credentials | None

    def layers(self, scheme: str) -> tuple[Layer, ...] | None:
        try:
            document = self._manifest(scheme, self.reference.digest or self.reference.tag)
        except httpx.TransportError:
            return None
        if "manifests" in document:
            machine = ARCHITECTURES.get(platform.machine(), platform.machine())
            document = self._manifest(scheme, _digest_for(document, machine))
        described = document["layers"]
        layers = [_layer(one) for one in described] if isinstance(described, list) else []
        return tuple({one.digest: one for one in layers}.values())

    def digest(self, source: ImageSource, architecture: str) -> str:
        try:
            return self._digest("https", architecture)
        except httpx.TransportError:
            if source.tls_verify:
                raise
        return self._digest("http", architecture)

    def _digest(self, scheme: str, architecture: str) -> str:
        body = self._read(scheme, f"manifests/{self.reference.digest or self.reference.tag}")
        document = _object(body)
        if "manifests" in document:
            return _digest_for(document, architecture)
        if "layers" not in document:
            raise ValueError("no manifest")
        if (only := self._architecture(scheme, document)) not in ("", architecture):
            raise _OtherArchitecture(f"it has it for {only}")
        return f"sha256:{hashlib.sha256(body).hexdigest()}"

    def _architecture(self, scheme: str, manifest: dict[str, object]) -> str:
        """Of an image that has no index; empty when it cannot be told."""
        try:
            described = manifest["config"]
            digest = _checked_digest(described["digest"]) if isinstance(described, dict) else ""
            return str(_object(self._read(scheme, f"blobs/{digest}"))["architecture"])
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError):
            return ""

    def _manifest(self, scheme: str, what: str) -> dict[str, object]:
        return _object(self._read(scheme, f"manifests/{what}"))

    def _read(self, scheme: str, what: str) -> bytes:
        registry = self.reference.registry
        host = "registry-1.docker.io" if registry == DOCKER_HUB else registry
        url = f"{scheme}://{host}/v2/{self.reference.path}/{what}"
        status, headers, body = self._get(url, {"Accept": MANIFESTS})
        if status == 401:
            challenge = headers.get("WWW-Authenticate", "")
            headers = {"Accept": MANIFESTS, "Authorization": self._answer(challenge)}
            status, _, body = self._get(url, headers)
        if status != 200:
            raise _Status(status)
        return body

    def _answer(self, challenge: str) -> str:
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic":
            if self.credentials is None:
                raise _Status(401)
            return f"Basic {self.credentials.basic}"
        if kind.lower() != "bearer":
            raise ValueError("unknown challenge")
        parameters = dict(_PARAMETER.findall(rest))
        realm = httpx.URL(parameters.pop("realm")).copy_merge_params(
            {name: parameters[name] for name in ("service", "scope") if name in parameters}
        )
        if realm.scheme != "https":
            raise ValueError("a token is asked for over TLS only")
        auth = (
            httpx.BasicAuth(self.credentials.user, self.credentials.password)
            if self.credentials
            else None
        )
        status, _, body = self._get(str(realm), {}, auth)
        document = _object(body)
        token = document.get("token") or document.get("access_token")
        if status != 200 or not isinstance(token, str):
            raise ValueError("no token")
        return f"Bearer {token}"

    def _get(
        self, url: str, headers: Mapping[str, str], auth: httpx.BasicAuth | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        body = bytearray()
        # Of a blob the registry may say where it is; httpx sends the password to no other host.
        with self.client.stream(
            "GET", url, headers=dict(headers), auth=auth, follow_redirects="/blobs/" in url
        ) as response:
            for piece in response.iter_bytes():
                body += piece
                if len(body) > BODY_LIMIT_BYTES:
                    raise ValueError("too large for a manifest")
            return response.status_code, response.headers, bytes(body)


def _object(body: bytes) -> dict[str, object]:
    document = load_json(body)
    if not isinstance(document, dict):
        raise TypeError("no JSON object")
    return document


def _digest_for(index: dict[str, object], architecture: str) -> str:
    manifests, others = index["manifests"], []
    for one in manifests if isinstance(manifests, list) else ():
        wanted = one["platform"]
        if (wanted["os"], wanted["architecture"]) == ("linux", architecture):
            return _checked_digest(one["digest"])
        if wanted["os"] == "linux":
            others.append(str(wanted["architecture"]))
    raise _OtherArchitecture(f"it has it for {', '.join(sorted(set(others))) or 'none'}")


def _layer(described: dict[str, object]) -> Layer:
    size = described["size"]
    if type(size) is not int or not 0 <= size <= LARGEST:
        raise ValueError("no size")
    return Layer(_checked_digest(described["digest"]), size)


def _checked_digest(digest: object) -> str:
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ValueError("no digest")
    return digest
