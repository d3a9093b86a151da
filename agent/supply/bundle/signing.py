# SPDX-License-Identifier: MulanPSL-2.0
"""Signs and checks a bundle's list with OpenSSH's ssh-keygen, which every openEuler has.

In: the bytes of `BUNDLE_NAME`, which hold every checksum; a key; the signers that are allowed. Out:
a signature, or the name of who has signed. `-Y find-principals` and `-Y verify` are of OpenSSH 8.2
(release notes; ssh-keygen(1)).
"""

import subprocess
import tempfile
from pathlib import Path

from agent.errors import AgentError, Code
from agent.host.reading import read_regular
from agent.supply.disk import writing
from agent.supply.signers import are_named

NAMESPACE = "deepseek-bundle"  # a signature for anything else is none for this
SIGNATURE_LIMIT_BYTES = 64 * 1024
SIGNERS_LIMIT_BYTES = 1024 * 1024
DEADLINE_S = 30.0
SIGN_DEADLINE_S = 300.0  # a person may be asked for a passphrase, or for a touch of a token
MAX_PRINCIPALS = 16
WORDS_BYTES = 300


def sign(text: bytes, key: Path) -> bytes:
    """`key`: a private key, or a public one whose private half an ssh-agent holds."""
    done = _ssh_keygen(("-Y", "sign", "-q", "-n", NAMESPACE, "-f", str(key)), text, SIGN_DEADLINE_S)
    if done.returncode != 0 or b"BEGIN SSH SIGNATURE" not in done.stdout:
        raise AgentError(
            Code.BUNDLE_UNTRUSTED,
            f"cannot sign the bundle with {key}: {_words(done)}",
            f"make a key with: ssh-keygen -t ed25519 -f {key}",
        )
    return done.stdout


def check(text: bytes, signature: bytes | None, signers: Path) -> str:
    """Who of `signers` has signed `text`; "" when there is no such file, so that nobody has to.

    The caller uses the very bytes that are checked here: nothing is read a second time.
    """
    if not are_named(signers):
        return ""
    if signature is None:
        raise AgentError(
            Code.BUNDLE_UNTRUSTED,
            "cannot trust the bundle: it is not signed",
            f"sign it where it is made (--sign KEY); {signers} says who may",
        )
    with (
        writing("check the signature"),
        tempfile.TemporaryDirectory(prefix="deepseek-bundle-") as folder,
    ):
        kept, allowed = Path(folder) / "signature", Path(folder) / "signers"
        kept.write_bytes(signature)
        allowed.write_bytes(_read_signers(signers))
        for name in _principals(kept, allowed, signers):
            arguments = ("-I", name, "-n", NAMESPACE, "-f", str(allowed), "-s", str(kept))
            if _ssh_keygen(("-Y", "verify", *arguments), text, DEADLINE_S).returncode == 0:
                return name
    raise AgentError(
        Code.BUNDLE_UNTRUSTED,
        "cannot trust the bundle: its signature is not of this list of files",
        "carry it again; if that does not help, ask who has made it",
    )


def _read_signers(signers: Path) -> bytes:
    try:
        return read_regular(signers, SIGNERS_LIMIT_BYTES)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise AgentError(
            Code.FILE_UNUSABLE,
            f"cannot read {signers}: {why}",
            "it is the ALLOWED SIGNERS file of ssh-keygen(1); while it is there it has to be read",
        ) from error


def _principals(signature: Path, allowed: Path, signers: Path) -> list[str]:
    """The names under which the key of the signature stands in the file."""
    done = _ssh_keygen(
        ("-Y", "find-principals", "-s", str(signature), "-f", str(allowed)), b"", DEADLINE_S
    )
    listed = done.stdout.decode(errors="replace").replace("\n", ",").split(",")
    names = [name for name in listed if name and name.isprintable() and name[0] not in "!-"]
    if done.returncode != 0 or not names:
        raise AgentError(
            Code.BUNDLE_UNTRUSTED,
            "cannot trust the bundle: it is signed by none of those who may",
            f"see {signers}; ssh-keygen says: {_words(done)}",
        )
    return names[:MAX_PRINCIPALS]


def _ssh_keygen(
    arguments: tuple[str, ...], text: bytes, deadline_s: float
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ("ssh-keygen", *arguments),
            input=text,
            capture_output=True,
            timeout=deadline_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise AgentError(
            Code.BUNDLE_UNTRUSTED,
            f"cannot {arguments[1]} a signature: ssh-keygen does not end in {deadline_s:.0f} s",
        ) from error
    except OSError as error:
        raise AgentError(
            Code.BUNDLE_UNTRUSTED,
            f"cannot {arguments[1]} a signature: ssh-keygen: {error.strerror}",
            "dnf install openssh",
        ) from error


def _words(done: subprocess.CompletedProcess[bytes]) -> str:
    """The last words of ssh-keygen: what they quote may be hostile."""
    text = (done.stderr or done.stdout)[-WORDS_BYTES:].decode(errors="replace")
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else "?" for c in line) or f"status {done.returncode}"
