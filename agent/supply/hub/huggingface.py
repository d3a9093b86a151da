# SPDX-License-Identifier: MulanPSL-2.0
"""Repositories in the shape of huggingface.co, which hf-mirror.com and others share.

huggingface_hub 0.34, hf_api.py: `model_info` (/api/models/REPO/revision/REV: `sha`) and
`list_repo_tree` (/api/models/REPO/tree/REV?recursive=true: `type`, `path`, `size`, `oid`,
`lfs.oid`, `lfs.size`; pages by a Link header with rel="next"); file_download.py `hf_hub_url`
(/REPO/resolve/REV/PATH, which for LFS leads on to a CDN).
"""

from urllib.parse import quote

from agent.supplies import ModelSource
from agent.supply.hub.listing import (
    COMMIT,
    FILES_LIMIT,
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
from agent.supply.net import HubClient

PAGES_LIMIT = 100  # of 1000 entries each (huggingface.co, 2025)


def list_files(client: HubClient, source: ModelSource) -> Listing:
    """Raises AgentError."""
    check_repo(source.repo, source.revision)
    revision = quote(source.revision, safe="")
    about = client.get_json(f"{source.endpoint}/api/models/{source.repo}/revision/{revision}")
    commit = checksum(text_field(about.value, "sha"), COMMIT)
    at = commit or revision
    url = f"{source.endpoint}/api/models/{source.repo}/tree/{at}?recursive=true"
    files: list[RemoteFile] = []
    for _ in range(PAGES_LIMIT):
        answer = client.get_json(url)
        if not isinstance(answer.value, list):
            raise listing_refused(client.host, "it is no list")
        base = f"{source.endpoint}/{source.repo}/resolve/{at}"
        files += [_file(entry, base) for entry in answer.value if _is_file(entry)]
        if not answer.next_url or len(files) > FILES_LIMIT:
            return check_listing(Listing(commit, tuple(files)), client.host)
        url = answer.next_url
    raise listing_refused(client.host, f"more than {PAGES_LIMIT} pages")


def _is_file(entry: object) -> bool:
    return text_field(entry, "type") != "directory"


def _file(entry: object, base: str) -> RemoteFile:
    path, lfs = text_field(entry, "path"), field(entry, "lfs")
    return RemoteFile(
        path=path,
        size=size_field(lfs if lfs is not None else entry, "size"),
        url=f"{base}/{quote(path, errors='replace')}",
        sha256=checksum(text_field(lfs, "oid"), SHA256),
        git_sha1="" if lfs is not None else checksum(text_field(entry, "oid"), COMMIT),
    )
