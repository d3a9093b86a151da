# SPDX-License-Identifier: MulanPSL-2.0
"""What a text of Podman about an image means: in comes the text, out comes a `Failure`.

Podman has no codes for these. The words were seen with Podman 4.3.1 and 5.4.2 against
docker-registry 2.8; of a pull that broke before its first byte the API tells the innermost error
alone (5.4.2).
"""

from agent.errors import Code, Failure

SHOWN = 400  # characters of Podman's text, at most
SIGNS: tuple[tuple[Code, tuple[str, ...]], ...] = (
    (Code.DISK_TOO_FULL, ("no space left on device", "disk quota exceeded")),
    (
        Code.SOURCE_UNTRUSTED,
        (
            "x509:",
            "tls: failed to verify",
            "tls: handshake failure",
            "server gave http response to https client",
        ),
    ),
    (
        Code.CONTENT_DAMAGED,
        (
            "digest mismatch",
            "does not match digest",
            "did not match the expected",
            "digest did not match",
            "doesn't match",
            "unexpected digest",
            "manifest verification failed",
        ),
    ),
    (
        Code.SOURCE_NOT_FOUND,
        (
            "manifest unknown",
            "name unknown",
            "repository not found",
            "statuscode: 404",
            "no image found in",  # the index has none for this architecture
            "invalid reference format",
        ),
    ),
    (
        Code.SOURCE_REFUSED,
        (
            "unauthorized",
            "authentication required",
            "access to the resource is denied",
            "denied:",
            "invalid username/password",
            "statuscode: 401",
            "statuscode: 403",
        ),
    ),
)
HINTS = {
    Code.DISK_TOO_FULL: "see: df -h, and: podman system df",
    Code.SOURCE_UNTRUSTED: "set ca_file, or tls_verify = false, for that one registry under "
    "[registries] in agent.toml",
    Code.CONTENT_DAMAGED: "it is tried again; when it stays so, ask who runs the registry",
    Code.SOURCE_NOT_FOUND: "see whether the registry has this name and tag for this architecture",
    Code.SOURCE_REFUSED: "set auth_file for that registry under [registries] in agent.toml, or: "
    "podman login",
    Code.SOURCE_UNREACHABLE: "see whether the registry can be reached from this host",
}


def explain_pull(registry: str, text: str) -> Failure:
    """What does not match any sign is taken for trouble that may pass."""
    small = text.lower()
    code = next(
        (code for code, signs in SIGNS if any(sign in small for sign in signs)),
        Code.SOURCE_UNREACHABLE,
    )
    return Failure(code, f"cannot pull from {registry}: {shorten(text)}", HINTS[code])


def explain_load(path: str, text: str) -> Failure:
    """An archive that Podman does not take is damaged, unless it says that the disk is full."""
    small = text.lower()
    if any(sign in small for sign in SIGNS[0][1]):
        code, hint = Code.DISK_TOO_FULL, HINTS[Code.DISK_TOO_FULL]
    else:
        code, hint = Code.CONTENT_DAMAGED, "copy the archive again, or remove it"
    return Failure(code, f"cannot load {path}: {shorten(text)}", hint)


def shorten(text: str) -> str:
    """One line; the cause is at the end of what Podman says."""
    line = " ".join(text.split()) or "Podman gives no reason"
    return line if len(line) <= SHOWN else f"...{line[-SHOWN:]}"
