# SPDX-License-Identifier: MulanPSL-2.0
"""The double of the hubs has the names and headers that its README tells the sources of."""

import json
from http.client import HTTPConnection, HTTPResponse
from urllib.parse import urlsplit

from tests.fakes.hub import HubDouble
from tests.unit.supply.hubs import BIG, BIG_BYTES, REPO, Bringing


def ask(address: str, **headers: str) -> tuple[HTTPResponse, bytes]:
    parts = urlsplit(address)
    connection = HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def test_hugging_face(bringing: Bringing) -> None:
    hub = bringing.hub.endpoint
    about = json.loads(ask(f"{hub}/api/models/{REPO}/revision/main")[1])
    assert len(about["sha"]) == 40
    entries, url = [], f"{hub}/api/models/{REPO}/tree/{about['sha']}?recursive=true"
    while url:
        answer, body = ask(url)
        entries += json.loads(body)
        link = answer.headers.get("Link", "")
        assert not link or link.endswith('>; rel="next"')
        url = link[1 : link.find(">")] if link else ""
    by_path = {entry["path"]: entry for entry in entries}
    assert by_path["tokenizer"]["type"] == "directory"
    assert by_path["config.json"].keys() == {"type", "path", "size", "oid"}
    assert by_path[BIG]["lfs"].keys() == {"oid", "size", "pointerSize"}
    answer, _ = ask(f"{hub}/{REPO}/resolve/{about['sha']}/{BIG}")
    assert answer.status == 302
    assert answer.headers["X-Linked-Size"] == str(BIG_BYTES)
    assert answer.headers["X-Linked-ETag"] == f'"{by_path[BIG]["lfs"]["oid"]}"'
    assert answer.headers["X-Repo-Commit"] == about["sha"]
    assert urlsplit(answer.headers["Location"]).netloc != urlsplit(hub).netloc
    assert_ranges(answer.headers["Location"])
    answer, _ = ask(f"{hub}/{REPO}/resolve/main/config.json")
    assert (answer.status, answer.headers["Location"][0]) == (307, "/")


def test_modelscope(bringing: Bringing) -> None:
    hub = f"{bringing.hub.endpoint}/api/v1/models/{REPO}/repo"
    answer = json.loads(ask(f"{hub}/files?Revision=master&Recursive=True")[1])
    assert answer.keys() == {"Code", "Data", "Message", "RequestId", "Success"}
    names = {"Path", "Name", "Type", "Size", "Sha256", "IsLFS", "Revision"}
    assert all(file.keys() >= names for file in answer["Data"]["Files"])
    assert answer["Data"]["LatestCommitter"]["Id"] == ""
    lead, _ = ask(f"{hub}?Revision=master&FilePath={BIG}")
    assert lead.status == 302
    assert_ranges(lead.headers["Location"])
    found, body = ask(f"{hub}?Revision=master&FilePath=config.json")
    assert (found.status, body) == (200, (bringing.root / "config.json").read_bytes())
    unknown = json.loads(ask(f"{hub}/files?Revision=v9")[1])
    assert unknown["Code"] == 200
    assert unknown["Data"]["Files"] is None


def assert_ranges(address: str) -> None:
    answer, body = ask(address, Range="bytes=10-19")
    assert (answer.status, len(body)) == (206, 10)
    assert answer.headers["Content-Range"] == f"bytes 10-19/{BIG_BYTES}"
    answer, _ = ask(address, Range=f"bytes={BIG_BYTES}-")
    assert answer.status == 416


def test_errors(shared_hub: HubDouble) -> None:
    shared_hub.spoil()
    codes = {
        f"/api/models/{REPO}/revision/v9": (404, "RevisionNotFound"),
        f"/{REPO}/resolve/main/other": (404, "EntryNotFound"),
        "/api/models/deepseek-ai/other/revision/main": (401, "RepoNotFound"),
    }
    for path, expected in codes.items():
        answer, _ = ask(shared_hub.endpoint + path)
        assert (answer.status, answer.headers["X-Error-Code"]) == expected
