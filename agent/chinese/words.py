# SPDX-License-Identifier: MulanPSL-2.0
"""Words for states."""

WORDS = {
    # phases of an instance
    "idle": "未启动",
    "waiting": "等待",
    "fetching": "下载中",
    "starting": "启动中",
    "loading": "加载中",
    "serving": "服务中",
    "backoff": "等待重试",
    "held": "已停住",
    "stopping": "停止中",
    # health of an NPU, and how grave its faults are
    "ok": "正常",
    "warning": "警告",
    "alarm": "告警",
    "critical": "严重",
    "unknown": "未知",
    "hint": "提示",
    "minor": "次要",
    "major": "重要",
    # the driver
    "ready": "就绪",
    "absent": "未安装或未加载",
    "failed": "异常",
    # modes of the agent
    "act": "自动处理",
    "observe": "仅观察",
    # what is pruned
    "staging": "未完成的下载",
    "evidence": "现场证据",
    "model": "模型",
    "image": "镜像",
    # the doctor
    "skipped": "跳过",
    "error": "错误",
    "the host": "主机",
    "NPUs": "NPU",
    "Podman": "Podman",
    "the agent": "agent",
}
