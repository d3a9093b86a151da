# SPDX-License-Identifier: MulanPSL-2.0
"""What failures of the agent say, by their template. Why is in `causes`."""

FAILURES = {
    # of any kind
    "cannot {0}: {1}": "操作失败（{0}）：{1}",
    "cannot {0} {1}: {2}": "操作失败（{0} {1}）：{2}",
    "cannot {0} {1}: internal error: {2}": "操作失败（{0} {1}）：程序内部错误：{2}",
    "cannot {0}: another process is at it": "操作失败（{0}）：另一个进程正在进行",
    "cannot {0}: only root may ask Podman for it": "操作失败（{0}）：只有 root 可以通过 Podman 进行",
    'cannot {0}: mode is "observe"': '无法执行（{0}）：当前模式为 "observe"（仅观察）',
    "cannot {0}: needed {1} GiB{2}{3}, there are {4} GiB on {5}": (
        "操作失败（{0}）：需要 {1} GiB{2}{3}，{5} 只剩 {4} GiB"
    ),
    # requests
    "cannot {0} {1}: it is not started": "无法执行（{0} {1}）：该实例未启动",
    "cannot {0} {1}: {2} has put it on hold{3}": "无法执行（{0} {1}）：{2} 已将其保持停止{3}",
    "cannot release {0}: it is not on hold": "无法解除 {0} 的保持：它没有被保持停止",
    "cannot replan {0}: {1}; it goes on as it is": "不重新规划 {0}：{1}；继续按现状运行",
    "cannot serve {0}: it is not known": "无法提供 {0}：没有这个实例",
    "cannot serve {0}: its profile is gone": "无法提供 {0}：它的模型配置文件已被删除",
    "cannot serve {0}: there is no profile of that name (there are: {1})": (
        "无法提供 {0}：没有该名称的模型配置文件（现有：{1}）"
    ),
    "cannot find NPU {0}: this host has {1}": "找不到 NPU {0}：本机有 {1}",
    "cannot find this change: it is too old, or the agent was restarted since": (
        "找不到该操作：已过期，或 agent 在此之后重启过"
    ),
    "cannot follow it: {0} is gone": "无法跟踪：{0} 已不存在",
    "cannot go on: {0} was released meanwhile": "无法继续：{0} 已被解除保持",
    "cannot go on: the update of {0} was ended meanwhile": "无法继续：{0} 的更新已在此期间结束",
    "cannot go on: {0} was {1} meanwhile": "无法继续：{0} 在此期间状态已改变（{1}）",
    "cannot answer a request that comes from a web page": "不应答来自网页的请求",
    "cannot answer: {0}": "无法应答：{0}",
    "cannot do this for uid {0}": "uid {0} 没有权限执行此操作",
    "cannot take a request as long as that": "请求过长，无法接受",
    "cannot take a request that breaks off": "请求不完整，无法接受",
    "cannot understand the request: {0}": "无法理解请求：{0}",
    "cannot understand {0}={1}: it has to be a number from {2} to {3}": (
        "无法理解 {0}={1}：应为 {2} 到 {3} 之间的数字"
    ),
    "cannot ask Podman: only root may": "无法询问 Podman：只有 root 可以",
    "cannot take {0} for a version of Podman": "{0} 不是有效的 Podman 版本",
    "cannot read the facts in {0}: {1}": "无法读取事实文件 {0}：{1}",
    "cannot read the API key of {0} in {1}: {2}": "无法读取 {0} 的 API 密钥（{1}）：{2}",
    # an engine
    "cannot start {0}: {1}": "无法启动 {0}：{1}",
    "cannot start {0} yet: it is {1}": "暂时无法启动 {0}：它的状态为 {1}",
    "cannot start {0}: job {1}": "无法启动 {0}：systemd 作业结果为 {1}",
    "cannot start {0}: job {1}, {2}": "无法启动 {0}：systemd 作业结果为 {1}，{2}",
    "cannot start {0}: job {1}, no room is left in {2}": (
        "无法启动 {0}：systemd 作业结果为 {1}，{2} 已没有空间"
    ),
    "cannot start {0}: it is masked": "无法启动 {0}：单元已被屏蔽（masked）",
    "cannot start {0}: it does not answer after {1}{2}": "无法启动 {0}：{1} 之后仍无应答{2}",
    "cannot start {0}: its front unit is not active": "无法启动 {0}：它的前端单元未运行",
    "cannot start {0}: systemd has not started its unit": "无法启动 {0}：systemd 没有启动它的单元",
    "cannot start it: what earlier engines left comes back each time": (
        "无法启动：之前的引擎残留的内容反复出现"
    ),
    "cannot start the engine yet: its front unit is being started first": (
        "暂时无法启动引擎：它的前端单元正在启动"
    ),
    "cannot stop {0}: {1}, unit {2}": "无法停止 {0}：{1}，单元 {2}",
    "cannot keep {0} serving: {1}": "{0} 无法继续提供服务：{1}",
    "cannot keep serving: {0}": "无法继续提供服务：{0}",
    "cannot keep serving: the engine ended ({0})": "无法继续提供服务：引擎已退出（{0}）",
    "cannot keep serving on an NPU that fails: {0}": "NPU 发生故障，无法继续提供服务：{0}",
    "cannot be reached: the engine answers in its container, and not at its port": (
        "无法访问：引擎在容器内有应答，但端口没有应答"
    ),
    "cannot be reached from other hosts: the kernel forwards nothing ({0} is 0)": (
        "其他主机无法访问：内核不转发数据包（{0} 为 0）"
    ),
    "cannot follow the work of {0}: its /metrics does not have {1}": (
        "无法跟踪 {0} 的工作：它的 /metrics 中没有 {1}"
    ),
    "cannot mend the way to the port of {0}: job {1} of {2}": (
        "无法恢复到 {0} 端口的通路：{2} 的 systemd 作业结果为 {1}"
    ),
    "cannot clear what an earlier engine left: process {0} outlives SIGKILL": (
        "无法清理之前的引擎：进程 {0} 在 SIGKILL 之后仍未结束"
    ),
    "cannot end process {0}: {1}": "无法结束进程 {0}：{1}",
    "cannot look at the files of the model: no answer within {0} s": (
        "无法查看模型文件：{0} 秒内没有应答"
    ),
    # units, systemd, Podman
    "cannot load {0} from {1}: it is {2}": "systemd 无法从 {1} 载入 {0}：结果为 {2}",
    "cannot mend {0}: with {1} as it was it is {2}": "无法恢复 {0}：还原 {1} 之后状态为 {2}",
    "cannot use {0}: systemd takes {1} from {2} instead": (
        "无法使用 {0}：systemd 采用的是 {2} 中的 {1}"
    ),
    "cannot call {0}{1}: {2}": "systemd 拒绝 {0}{1}：{2}",
    "cannot call {0}{1}: systemd is not on the bus: {2}": (
        "无法调用 {0}{1}：总线上没有 systemd：{2}"
    ),
    "cannot ask systemd: {0}": "无法询问 systemd：{0}",
    "cannot ask systemd: the system bus is gone": "无法询问 systemd：系统总线已断开",
    "cannot wait for a job: the system bus is gone": "无法等待 systemd 作业：系统总线已断开",
    "cannot tell yet: systemd has not been asked": "暂时未知：尚未询问 systemd",
    "cannot understand systemd: {0}": "无法理解 systemd 的应答：{0}",
    "cannot ask Podman: {0}": "无法询问 Podman：{0}",
    "cannot ask Podman: {0} is off, and {1}": "无法询问 Podman：{0} 未启动，且 {1}",
    "cannot run podman: {0}": "无法运行 Podman：{0}",
    "cannot podman {0}: {1}": "Podman 操作 {0} 失败：{1}",
    "cannot wait for podman {0}: no end in {1} s": "Podman 操作 {0} 在 {1} 秒内没有结束",
    "cannot understand Podman's answer: {0}": "无法理解 Podman 的应答：{0}",
    "cannot understand Podman's images: {0}": "无法理解 Podman 的镜像列表：{0}",
    "cannot understand what Podman says of {0}: {1}": "无法理解 Podman 关于 {0} 的应答：{1}",
    "cannot understand what asks Podman: {0}": "无法理解查询 Podman 的进程：{0}",
    "cannot try the rendered file: {0}": "无法试运行生成的单元文件：{0}",
    # files of the agent
    "cannot run {0}: {1}": "无法运行 {0}：{1}",
    "cannot run zstd: {0} (dnf install zstd)": "无法运行 zstd：{0}（dnf install zstd）",
    "cannot read {0}: {1}": "无法读取 {0}：{1}",
    "cannot read {0}: it is not text": "无法读取 {0}：它不是文本",
    "cannot write {0}: {1}": "无法写入 {0}：{1}",
    "cannot remove {0}: {1}": "无法删除 {0}：{1}",
    "cannot write the order for {0}: {1}": "无法写入 {0} 的任务文件：{1}",
    "cannot write the bundle to {0}: {1}": "无法把文件写到 {0}：{1}",
    "cannot use {0}: {1}": "无法使用 {0}：{1}",
    "cannot use {0}: {1}{2}": "无法使用 {0}：{1}{2}",
    "cannot use {0}: its disk does not answer within {1} s": (
        "无法使用 {0}：它所在的磁盘在 {1} 秒内没有应答"
    ),
    "cannot use {0}: {1}; events are kept from now on": "无法使用 {0}：{1}；事件从现在起重新记录",
    "cannot use {0}: {1}; it begins anew with what systemd and Podman show": (
        "无法使用 {0}：{1}；将根据 systemd 与 Podman 的现状重新开始"
    ),
    "cannot use api_key_file {0}: {1}": "无法使用 api_key_file {0}：{1}",
    "cannot use auth_file {0}: {1}": "无法使用 auth_file {0}：{1}",
    "cannot use ca_file {0}: {1}": "无法使用 ca_file {0}：{1}",
    "cannot put a CA into {0}: {1}": "无法把 CA 证书放入 {0}：{1}",
    "cannot put {0} in force: the agent reads {1} alone": (
        "无法使 {0} 中的配置生效：agent 只读取 {1}"
    ),
    "cannot read the token in {0}: {1}": "无法读取令牌文件 {0}：{1}",
    "cannot read the token in {0}: it is not one word": "令牌文件 {0} 的内容不是一个单词",
    "cannot read the credential {0}: systemd has passed none of that name": (
        "无法读取凭据 {0}：systemd 没有传入该名称的凭据"
    ),
    "cannot serve metrics at {0}: {1}": "无法在 {0} 提供监控指标：{1}",
    # the configuration
    "cannot read the configuration: {0}": "无法读取配置：{0}",
    "cannot read the configuration: internal error: {0}": "无法读取配置：程序内部错误：{0}",
    "cannot read the environment DEEPSEEK_AGENT_*: {0}": ("无法读取环境变量 DEEPSEEK_AGENT_*：{0}"),
    "cannot use the environment's {0}: unknown variable{1}": "无法使用环境变量 {0}：未知变量{1}",
    "cannot use the profile {0}: its name does not fit {1}": (
        "无法使用模型配置文件 {0}：名称不符合 {1}"
    ),
    "cannot use {0}: {1}: {2}{3}": "无法使用 {0}：{1}：{2}{3}",
    "cannot use {0}: faults.{1}.level: it is required, since no other file knows this code": (
        "无法使用 {0}：faults.{1}.level：必须给出，因为其他文件中没有该故障码"
    ),
}
