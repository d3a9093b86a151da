# SPDX-License-Identifier: MulanPSL-2.0
"""Repositories in the shape of modelscope.cn.

modelscope 1.2x, hub/api.py `get_model_files` (/api/v1/models/REPO/repo/files?Revision=&Recursive=,
answers {Code, Success, Message, Data: {Files: [{Path, Name, Type, Size, Sha256, Revision}],
LatestCommitter}}) and hub/file_download.py `get_file_download_url`
(/api/v1/models/REPO/repo?Revision=&FilePath=). A revision that is not there is answered with 200
and `Files: null`. `Revision` of a file is the commit that changed it last, not the asked one.
"""

from urllib.parse import urlencode

from agent.errors import Code
from agent.supplies import ModelSource
from agent.supply.hub.envelope import Refusal, read_refusal
from agent.supply.hub.listing import (
    COMMIT,
    SHA256,
    Listing,
    RemoteFile,
    check_listing,
    check_repo,
    checksum,
    field,
    listing_refused,
    size_field,
    text_field,
)
from agent.supply.net import HubClient, refused

NO_REVISION = Refusal(Code.SOURCE_NOT_FOUND, "no such revision")
SHORT_COMMIT = 7  # digits that tell commits of one repository apart


def list_files(client: HubClient, source: ModelSource) -> Listing:
    """Raises AgentError."""
    check_repo(source.repo, source.revision)
    base = f"{source.endpoint}/api/v1/models/{source.repo}/repo"
    asked = urlencode({"Revision": source.revision, "Recursive": "True"})
    data = _data(client.get_json(f"{base}/files?{asked}").value, client.host, source)
    entries = field(data, "Files")
    if entries is None:
        raise refused(NO_REVISION, _name(source), client.host)
    if not isinstance(entries, list):
        raise listing_refused(client.host, "it is no list")
    blobs = [entry for entry in entries if text_field(entry, "Type") != "tree"]
    commit = _commit(data, blobs, source.revision)
    at = commit or source.revision
    files = tuple(_file(entry, base, at) for entry in blobs)
    return check_listing(Listing(commit, files), client.host)


def _data(answer: object, host: str, source: ModelSource) -> object:
    """Refusals arrive with status 200 as well."""
    refusal = read_refusal(answer)
    if refusal is not None:
        raise refused(refusal, _name(source), host)
    data = field(answer, "Data")
    if not isinstance(data, dict):
        raise listing_refused(host, "there is no Data in it")
    return data


def _name(source: ModelSource) -> str:
    return f"{source.repo} ({source.revision})"


def _commit(data: object, blobs: list[object], asked: str) -> str:
    """Of the head some servers tell the first digits only; a file that it changed has them all."""
    if COMMIT.fullmatch(asked):
        return asked
    latest = field(data, "LatestCommitter")
    if whole := checksum(text_field(latest, "Id"), COMMIT):
        return whole
    short = text_field(latest, "ShortId").lower()
    changed = {checksum(text_field(entry, "Revision"), COMMIT) for entry in blobs}
    found = [one for one in changed if len(short) >= SHORT_COMMIT and one.startswith(short)]
    return found[0] if len(found) == 1 else ""


def _file(entry: object, base: str, revision: str) -> RemoteFile:
    path = text_field(entry, "Path")
    asked = urlencode({"Revision": revision, "FilePath": path}, errors="replace")
    return RemoteFile(
        path=path,
        size=size_field(entry, "Size"),
        url=f"{base}?{asked}",
        sha256=checksum(text_field(entry, "Sha256"), SHA256),
    )
