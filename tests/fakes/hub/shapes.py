# SPDX-License-Identifier: MulanPSL-2.0
"""The hub in both shapes, and the CDN to which it leads. See README.md for what is copied."""

import json
import re
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.fakes.hub.answers import Answering
from tests.fakes.hub.faults import Rule
from tests.fakes.hub.repos import Blob, Tree, read_tree, read_trees

REPO = r"(?P<repo>[^/]+/[^/]+)"
ROUTES = {
    "model_info": re.compile(rf"/api/models/{REPO}/revision/(?P<revision>[^/]+)"),
    "tree": re.compile(rf"/api/models/{REPO}/tree/(?P<revision>[^/]+)"),
    "resolve_cache": re.compile(
        rf"/api/resolve-cache/models/{REPO}/(?P<revision>[^/]+)/(?P<path>.+)"
    ),
    "scope_files": re.compile(rf"/api/v1/models/{REPO}/repo/files"),
    "scope_file": re.compile(rf"/api/v1/models/{REPO}/repo"),
    "resolve": re.compile(rf"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)"),
}
SCOPE_NOT_FOUND = 10010205001
SCOPE_WORDS = "获取模型目录树失败，信息：record not found"


class Hub(Answering):
    """huggingface.co and modelscope.cn in one."""

    folder: Path
    cdn: str  # its address
    page_size: int
    token: str  # empty: everybody may read

    def do_GET(self) -> None:
        if self.path == "/_asked":
            with self.faults.lock:
                asked = list(self.faults.asked)
            self.send_json(asked)
            return
        rule = self.rule()
        if self.spoiled(rule):
            return
        for name, route in ROUTES.items():
            if found := route.fullmatch(unquote(urlsplit(self.path).path)):
                self._answer(name, found.groupdict(), rule)
                return
        self.send(404, "", {})

    def do_PUT(self) -> None:
        """/_faults: the rules, as JSON."""
        self.faults.set(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send(204, "", {})

    @property
    def _query(self) -> dict[str, str]:
        return {name: found[0] for name, found in parse_qs(urlsplit(self.path).query).items()}

    def _answer(self, name: str, words: dict[str, str], rule: Rule | None) -> None:
        revision = words.get("revision", "") or self._query.get("Revision", "")
        tree = read_tree(self.folder, words["repo"], revision)
        if name.startswith("scope"):
            self._answer_scope(name, tree, rule)
            return
        if tree is None or not self._may_read():
            # As to somebody who may not know whether it is there.
            self._refuse(401, "RepoNotFound" if tree is None else "GatedRepo")
        elif not tree.has(words["revision"]):
            self._refuse(404, "RevisionNotFound")
        elif name == "model_info":
            self.send_json({"id": tree.name, "sha": tree.commit, "private": False, "siblings": []})
        elif name == "tree":
            self._send_tree(tree)
        elif blob := tree.find(words["path"]):
            self._resolve(name, tree, blob, rule)
        else:
            self._refuse(404, "EntryNotFound")

    def _may_read(self) -> bool:
        given = self.headers.get("Authorization", "")
        cookie = self.headers.get("Cookie", "")
        right = (f"Bearer {self.token}", f"m_session_id={self.token}")
        return not self.token or given == right[0] or cookie == right[1]

    def _refuse(self, status: int, code: str) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": code}
        self.send_json({"error": code}, headers, status)

    # --- Hugging Face -----------------------------------------------------------------------------

    def _send_tree(self, tree: Tree) -> None:
        cursor = int(self._query.get("cursor", "0"))
        entries = [_entry(blob) for blob in tree.blobs]
        folders = {str(Path(blob.path).parent) for blob in tree.blobs} - {"."}
        entries += [{"type": "directory", "oid": "0" * 40, "size": 0, "path": p} for p in folders]
        headers = {}
        if cursor + self.page_size < len(entries):
            path = urlsplit(self.path).path
            host = self.headers["Host"]
            following = f"{self.scheme}://{host}{path}?recursive=true&cursor="
            headers["Link"] = f'<{following}{cursor + self.page_size}>; rel="next"'
        self.send_json(entries[cursor : cursor + self.page_size], headers)

    scheme = "http"

    def _resolve(self, name: str, tree: Tree, blob: Blob, rule: Rule | None) -> None:
        headers = {"X-Repo-Commit": tree.commit}
        if name == "resolve_cache":
            self.send_file(blob, {**headers, "ETag": f'"{blob.git_sha1}"'}, rule)
        elif blob.in_lfs:
            linked = {"X-Linked-Size": str(blob.size), "X-Linked-ETag": f'"{blob.sha256}"'}
            self._lead(f"{self.cdn}/{tree.name}/{blob.sha256}", {**headers, **linked})
        else:
            place = f"/api/resolve-cache/models/{tree.name}/{tree.commit}/{quote(blob.path)}"
            self.send(307, "Temporary Redirect. Redirecting to it", {**headers, "Location": place})

    def _lead(self, to: str, headers: dict[str, str]) -> None:
        self.send(302, "Found. Redirecting to it", {**headers, "Location": f"{to}?Signature=x"})

    # --- ModelScope -------------------------------------------------------------------------------

    def _answer_scope(self, name: str, tree: Tree | None, rule: Rule | None) -> None:
        revision = self._query.get("Revision", "master")
        if tree is None or not self._may_read():
            body = {"Code": SCOPE_NOT_FOUND, "Message": SCOPE_WORDS, "Success": False}
            self.send_json({**body, "Data": None, "RequestId": "x"}, None, 404)
        elif name == "scope_files":
            self._send_scope_files(tree if tree.has(revision) else None)
        elif not tree.has(revision) or not (blob := tree.find(self._query.get("FilePath", ""))):
            body = {"Code": SCOPE_NOT_FOUND, "Message": SCOPE_WORDS, "Success": False}
            self.send_json({**body, "Data": None, "RequestId": "x"}, None, 404)
        elif blob.in_lfs:
            self._lead(f"{self.cdn}/{tree.name}/{blob.sha256}", {})
        else:
            self.send_file(blob, {"ETag": f'"{blob.sha256}"'}, rule)

    def _send_scope_files(self, tree: Tree | None) -> None:
        latest = {"Id": "", "ShortId": tree.commit[:8], "Name": "x"} if tree else None
        files = [_scope_entry(tree, blob) for blob in tree.blobs] if tree else None
        data = {"Files": files, "IsVisual": 0, "LatestCommitter": latest}
        self.send_json(
            {"Code": 200, "Data": data, "Message": "success", "RequestId": "x", "Success": True}
        )


class Cdn(Answering):
    """Knows contents only; asks nobody for a token."""

    folder: Path

    def do_GET(self) -> None:
        rule = self.rule()
        if self.spoiled(rule):
            return
        owner, _, rest = urlsplit(self.path).path.removeprefix("/").partition("/")
        name, _, sha256 = rest.partition("/")
        blobs = (one for tree in read_trees(self.folder, f"{owner}/{name}") for one in tree.blobs)
        blob = next((one for one in blobs if one.sha256 == sha256), None)
        if blob is None:
            self.send(403, "AccessDenied", {})
        else:
            self.send_file(blob, {"ETag": f'"{blob.sha256}"'}, rule)


def _entry(blob: Blob) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": blob.path, "size": blob.size}
    if blob.in_lfs:
        lfs = {"oid": blob.sha256, "size": blob.size, "pointerSize": 135}
        return {**entry, "oid": "f" * 40, "lfs": lfs}
    return {**entry, "oid": blob.git_sha1}


def _scope_entry(tree: Tree, blob: Blob) -> dict[str, object]:
    return {
        "Path": blob.path,
        "Name": Path(blob.path).name,
        "Type": "blob",
        "Size": blob.size,
        "Sha256": blob.sha256,
        "IsLFS": blob.in_lfs,
        "Revision": tree.commit,
        "CommittedDate": 1700000000,
    }
