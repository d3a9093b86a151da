# SPDX-License-Identifier: MulanPSL-2.0
"""What lets us in at a source: in a `ModelSource`, out whom to trust, and headers with its token.

A token is in no message, whatever is wrong with it.
"""

import os
import ssl
from pathlib import Path

from agent.errors import AgentError, Code
from agent.host.reading import read_regular
from agent.supplies import Hub, ModelSource

TOKEN_LIMIT_BYTES = 8 * 1024
CREDENTIAL = "credential:"


def trust(source: ModelSource) -> ssl.SSLContext:
    """The system's authorities, not those of certifi; the source's own one beside them, because a
    redirect may lead to a public host. Raises AgentError."""
    context = ssl.create_default_context()
    if not source.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if source.ca_file:
        try:
            context.load_verify_locations(source.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise AgentError(
                Code.FILE_UNUSABLE,
                f"cannot read {source.ca_file}: {error}",
                "it has to be a PEM file with the certificate of the authority",
            ) from error
    return context


def secrets_of(source: ModelSource) -> dict[str, str]:
    """Headers for its own origin; empty without a token. Raises AgentError."""
    token = _read_token(source.token_file) if source.token_file else ""
    if not token:
        return {}
    headers = {"Authorization": f"Bearer {token}"}
    if source.hub is Hub.MODELSCOPE:
        # modelscope 1.x, hub/api.py: logged in by this cookie; newer servers take either.
        headers["Cookie"] = f"m_session_id={token}"
    return headers


def _read_token(place: str) -> str:
    path = Path(place)
    if place.startswith(CREDENTIAL):
        name = place.removeprefix(CREDENTIAL)
        folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
        if not folder or "/" in name or name in ("", ".", ".."):
            raise AgentError(
                Code.FILE_UNUSABLE,
                f"cannot read the credential {name}: systemd has passed none of that name",
                "see LoadCredential= of the unit, and: systemd-creds list",
            )
        path = Path(folder) / name
    try:
        token = read_regular(path, TOKEN_LIMIT_BYTES).decode("ascii").strip()
    except (OSError, ValueError) as error:
        # Of a decoding error the text would be told.
        why = error.strerror if isinstance(error, OSError) else "it is no token"
        raise AgentError(Code.FILE_UNUSABLE, f"cannot read the token in {place}: {why}") from None
    if not token or not all("!" <= character <= "~" for character in token):
        raise AgentError(
            Code.FILE_UNUSABLE,
            f"cannot read the token in {place}: it is not one word",
            "the file has to hold the token alone",
        )
    return token
