# SPDX-License-Identifier: MulanPSL-2.0
"""Failures that operators meet, as the agent makes them, and the commands that look at files
themselves: in Chinese for people, in English for programs."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from agent.control.pilot import observing
from agent.errors import AgentError, Failure
from agent.health.diagnosis import diagnose
from agent.health.state import Liveness, Verdict
from agent.health.words import explain
from agent.host.pull_failures import explain_load, explain_pull
from agent.language import Language, speak, translate
from agent.supply.bundle.__main__ import main as bundle
from agent.supply.disk import check_room, disk_error
from agent.supply.net import failure_of
from agent.support.manifest import Entry, summary
from tests.language.failures import failures
from tests.language.found import hints
from tests.unit.supply.bundle_scene import Scene, put_model

TREE = Path(__file__).resolve().parents[2]
CHINA = {**os.environ, "LANG": "zh_CN.UTF-8", "LC_ALL": "zh_CN.UTF-8", "PYTHONUTF8": "1"}


@pytest.fixture(autouse=True)
def _chinese() -> Iterator[None]:
    speak(Language.CHINESE)
    yield
    speak(Language.ENGLISH)


# --- messages ------------------------------------------------------------------------------------


def raised(act: Callable[[], object]) -> Failure:
    with pytest.raises(AgentError) as caught:
        act()
    return caught.value.failure


def found_in_log(line: str) -> Failure:
    failure = diagnose("8b", [line], served=False)
    assert failure is not None
    return failure


NO_NETWORK = httpx.ConnectError("[Errno -3] Temporary failure in name resolution")
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (
            failure_of(NO_NETWORK, "https", "modelscope.cn").failure,
            "无法从 modelscope.cn 下载：[错误号 -3] 域名解析暂时失败",
        ),
        (
            failure_of(httpx.ConnectTimeout("x"), "https", "modelscope.cn").failure,
            "无法从 modelscope.cn 下载：无法建立连接",
        ),
        (
            disk_error(FULL, "write below /var/lib/x").failure,
            "无法写入 /var/lib/x 中的文件：磁盘空间已满",
        ),
        (
            raised(lambda: check_room("fetch the model", {Path("/"): 2**60}, 2048, 2**30)),
            "操作失败（下载模型）：需要 1073741824.0 GiB，镜像另需 1.0 GiB，并须保留 2.0 GiB，/ 只",
        ),
        (
            explain_pull("registry.cn:5000", "manifest unknown: x"),
            "无法从 registry.cn:5000 拉取镜像：manifest unknown: x",
        ),
        (
            explain_load("/mnt/a.tar", "no space left on device"),
            "无法载入 /mnt/a.tar：no space left",
        ),
        (
            explain(Verdict.HUNG, Liveness(0.0, busy=False, misses=2), 12.0),
            "无法继续提供服务：引擎挂起：12.0 秒没有产出 token，2 次探测无应答，引擎称其空闲，"
            "而 API 服务仍有应答",
        ),
        (found_in_log("error code is 507015"), "无法启动 8b：NPU 的 AI Core 故障（ACL 507015）"),
        (
            found_in_log("listen tcp :2023: bind: address already in use"),
            "无法启动 8b：Podman 无法打开它的端口：已被本机其他程序占用",
        ),
        (observing("stop 8b"), '无法执行（stop 8b）：当前模式为 "observe"（仅观察）'),
    ],
    ids=lambda value: value.code if isinstance(value, Failure) else "",
)
def test_failures_as_they_are_made(failure: Failure, said: str) -> None:
    assert translate(failure.message).startswith(said)
    assert translate(failure.hint) != failure.hint


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            "cannot find /x on modelscope.cn: HTTP 404",
            "modelscope.cn 上找不到 /x：HTTP 404",
        ),
        (
            "cannot fetch /m/8b from any source: cannot find /x on hub.cn: HTTP 404",
            "所有来源都无法下载 /m/8b：hub.cn 上找不到 /x：HTTP 404",
        ),
        (
            "cannot trust /m/8b: a.bin: its content is not what it was; b.bin: 3 bytes, not 4",
            "不信任 /m/8b：a.bin：内容与校验和不符；b.bin：大小为 3 字节，应为 4",
        ),
        (
            "cannot restart 8b: root has put it on hold (disk swap)",
            "无法执行（restart 8b）：root 已将其保持停止 (disk swap)",
        ),
        (
            "cannot bring what 8b lacks: cannot pull from quay.io: it is over",
            "无法获取 what 8b lacks：无法从 quay.io 拉取镜像：it is over",
        ),
        (
            "cannot use /etc/8b.toml: environment: it is longer than 262144 bytes together with "
            "mounts and vllm.extra_args (and 2 more)",
            "无法使用 /etc/8b.toml：environment：它与 mounts、vllm.extra_args 合计超过 262144 字节"
            "（另有 2 项）",
        ),
        ("cannot go to the moon: no rocket", "操作失败（go to the moon）：no rocket"),
    ],
)
def test_what_is_in_a_message_is_looked_up_again(message: str, said: str) -> None:
    assert translate(message) == said


def test_the_first_colon_ends_what_cannot_be_done() -> None:
    """And no template with more places before it fits."""
    assert translate("cannot fly: no wings yet: wait") == "操作失败（fly）：no wings yet: wait"


def test_messages_are_found_in_the_sources() -> None:
    """The search itself: in a call, a constant, a variable, a class of its own; what is given to
    those who make a message of it; words of pydantic, libc, vLLM."""
    wanted = {
        *("cannot replan {0}: {1}; it goes on as it is", "cannot fetch from {0}: {1}"),
        *("cannot wait for a job: the system bus is gone", "cannot call {0}{1}: {2}"),
        *("cannot write below {0}: {1}", "fetch the model", "copy {0}", "it must not be empty"),
        *("it must be greater than {0}", "No space left on device", "Name or service not known"),
        *("vLLM has no reasoning parser {0}", "the runtime of its NPU failed"),
    }
    assert wanted - failures() == set()
    assert "make a key with: ssh-keygen -t ed25519 -f {0}" in hints()


# --- commands ------------------------------------------------------------------------------------


def run(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        env=CHINA,
        cwd=TREE,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    (tmp_path / "agent.toml").write_text("[limits]\nrestart = 1\n", encoding="utf-8")
    return tmp_path


def test_a_configuration_that_cannot_be_used(settings: Path) -> None:
    place = ("--etc", str(settings), "--share", str(settings))
    checked = run("agent.config", "--check", *place)
    first, second = checked.stderr.splitlines()
    assert first.startswith(f"无法使用 {settings}/agent.toml：limits.restart：未知的键；可用：")
    assert second == "  建议：更正该键，然后执行：deepseekctl config check"
    assert run("agent.config", "--show", *place).stderr == checked.stderr
    for_the_agent = json.loads(run("agent.config", *place).stdout)["error"]
    assert for_the_agent["message"].startswith(f"cannot use {settings}/agent.toml: limits.restart")


def test_a_configuration_that_can_be_used(tmp_path: Path) -> None:
    profiles = tmp_path / "models.d"
    profiles.mkdir()
    shipped = (TREE / "etc/models.d/8b.toml").read_text(encoding="utf-8")
    for name in ("8b", "copy"):
        (profiles / f"{name}.toml").write_text(shipped, encoding="utf-8")
    shutil.copy(TREE / "etc/faults.toml", tmp_path)
    place = ("--etc", str(tmp_path / "none"), "--share", str(tmp_path))
    checked = run("agent.config", "--check", *place)
    assert checked.stderr == ""
    assert checked.stdout.splitlines() == [
        "注意：8b、copy 使用同一端口 2023：只能有一个提供服务",
        "配置可以使用",
    ]


def test_an_image_that_cannot_be_built() -> None:
    built = run("agent.cli", "image", "build", "--file=/nowhere/Containerfile")
    assert built.stderr == "deepseekctl: 无法构建镜像：/nowhere/Containerfile：没有这个文件或目录\n"


def test_a_bundle_that_is_not_there(tmp_path: Path) -> None:
    read = run("agent.cli", "bundle", "verify", str(tmp_path))
    assert read.stderr.startswith("deepseekctl: 下载源中没有所需内容\n")
    assert f"{tmp_path} 中没有离线包：" in read.stderr
    assert "  建议：请指定由 `deepseekctl bundle create` 生成的目录" in read.stderr


def test_what_becomes_of_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Scene(tmp_path)
    put_model(made.model, {"config.json": b"{}"})
    made.models_dir.mkdir(parents=True)
    output, signers = str(made.output), ["--signers", str(made.signers)]
    assert bundle(["create", "8b", "-o", output, "--model", str(made.model)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{output}/deepseek-bundle.json：8b 的离线包，制作于 ")
    assert printed.endswith(" GiB，未签名\n")
    read = run("agent.cli", "bundle", "verify", output, *signers)
    assert read.stdout.startswith("完整：8b 的离线包，制作于 ")
    assert read.stdout.endswith(f"，未检查签名：没有 {made.signers}\n")
    for expected in ("模型已导入；", "模型原已存在；"):
        assert bundle(["import", output, "--models-dir", str(made.models_dir), *signers]) == 0
        assert capsys.readouterr().out.startswith(expected)
    (made.output / "model/config.json.000").write_bytes(b"[]")
    damaged = run("agent.cli", "bundle", "verify", output, *signers).stderr
    assert "无法使用离线包：model/config.json.000：内容与校验和不符 [bundle-damaged]" in damaged
    assert damaged.startswith(f"正在从 {output} 校验模型：100 %（2 B / 2 B）\n")


def test_a_support_bundle_tells_what_is_in_it() -> None:
    taken = Entry("journal/agent.txt", "journal", taken=True, secrets=2, lines=3)
    why = os.strerror(errno.EACCES)
    there_is_none = [Entry(f"x{n}", "x", taken=False, problem=why) for n in range(8)]
    assert summary([taken, *there_is_none]) == [
        "内容：    1 个文件：journal",
        "已去除：  2 个是或可能是密钥的值，3 行可能含提示词的内容",
        f"缺少：    {'; '.join(f'x{n} (权限不足)' for n in range(6))}，另有 2 项；"
        "完整列表见 MANIFEST.txt",
    ]
