# SPDX-License-Identifier: MulanPSL-2.0
"""What deepseekctl itself says: pages and short answers."""

TEXTS = {
    # times and amounts
    "{seconds} s": "{seconds} 秒",
    "{minutes} min {seconds} s": "{minutes} 分 {seconds} 秒",
    "{hours} h {minutes} min": "{hours} 小时 {minutes} 分",
    "{days} d {hours} h": "{days} 天 {hours} 小时",
    "{share} % ({done} of {total})": "{share} %（{done} / {total}）",
    "{pace}/s, {left} left": "{pace}/s，剩余 {left}",
    " ({done} of {total})": "（{done} / {total}）",
    "... {count} lines more: make the window taller": "……还有 {count} 行，请增大终端窗口高度",
    # the first line
    "all well: ": "一切正常：",
    "idle: ": "空闲：",
    "idle, but: ": "空闲，但请注意：",
    "not yet: ": "尚未就绪：",
    "serving, but: ": "服务中，但请注意：",
    "TROUBLE: ": "有故障：",
    "; ": "；",
    ": ": "：",
    "{name} serves": "{name} 服务正常",
    "{names} serve": "{names} 服务正常",
    "{count} more": "另有 {count} 项",
    "no model is to serve here; start one with: {command}": (
        "本机没有需要提供服务的模型；启动一个：{command}"
    ),
    "the configuration cannot be used": "配置无法使用",
    "1 profile cannot be used": "1 个模型配置文件无法使用",
    "{count} profiles cannot be used": "{count} 个模型配置文件无法使用",
    "files about fault codes cannot be used": "故障码配置文件无法使用",
    "systemd does not answer, what follows may be old": "systemd 无响应，以下内容可能已过时",
    "{name} is being fetched": "{name} 正在下载",
    "{name} is being stopped": "{name} 正在停止",
    "{name} is being started": "{name} 正在启动",
    "{name} serves badly": "{name} 服务异常",
    "{name} does not serve, and waits for somebody": "{name} 未提供服务，需要人工处理",
    "{name} waits, and does not serve": "{name} 未提供服务，正在等待条件就绪",
    "{name} does not serve": "{name} 未提供服务",
    "{name} does not serve, and is tried anew": "{name} 未提供服务，正在自动重试",
    "{name} was refused, and waits for: {command}": "{name} 的启动被拒绝，修好后请执行：{command}",
    "{name} is to serve, and has no profile": "{name} 应提供服务，但没有对应的模型配置文件",
    "{name} has fewer NPUs than it should": "{name} 使用的 NPU 少于应有数量",
    "{name} failed, and nobody wishes it any more": "{name} 已失败，且未再要求启动",
    "an update of {name} is on trial": "{name} 的更新正在试运行",
    "the host is suspected": "怀疑主机本身有问题",
    "1 NPU set aside": "1 个 NPU 已隔离",
    "{count} NPUs set aside": "{count} 个 NPU 已隔离",
    "1 NPU gone": "1 个 NPU 丢失",
    "{count} NPUs gone": "{count} 个 NPU 丢失",
    "a disk is too full": "磁盘空间不足",
    "NPU driver {state}": "NPU 驱动{state}",
    # an instance
    "configuration not in force: ": "配置未生效：",
    "profile not usable: ": "模型配置文件无法使用：",
    "fault codes not in force: ": "故障码配置未生效：",
    "units not seen: ": "无法查看单元：",
    "not started": "未启动",
    "not started: {names} ({command})": "未启动：{names}（{command}）",
    "not started ({command})": "未启动（{command}）",
    "refused; when it is mended: {command}": "启动被拒绝；修好后请执行：{command}",
    "is to serve, and has no profile": "应提供服务，但没有对应的模型配置文件",
    "write {file}, then: {command}": "请编写 {file}，然后执行：{command}",
    "or, if it is not to serve: {command}": "如不需要它提供服务，请执行：{command}",
    "see: {command}": "请查看：{command}",
    "waiting, {age}": "等待条件就绪，已等待 {age}",
    "starting the container, {age}": "正在启动容器，已用时 {age}",
    "loading the model{reached}, {age}": "正在加载模型{reached}，已用时 {age}",
    "serving for {age}": "服务中，已持续 {age}",
    "trying again in {wait}": "{wait}后重试",
    "held until something changes, {age}": "已停住，等待人工处理，已停 {age}",
    "stopping, {age}": "正在停止，已用时 {age}",
    "vLLM begins": "vLLM 初始化",
    "weights": "模型权重",
    "compiling": "编译",
    "laying out memory": "分配显存",
    "capturing graphs": "捕获计算图",
    "waiting for its first token": "等待首个 token",
    "last": "上次原因",
    "reason": "原因",
    "trouble": "异常",
    "hint": "建议",
    "degraded": "降级",
    "back on all that are well: {command}": "恢复使用全部健康的 NPU：{command}",
    "start": "启动",
    "tried anew in {left}, or later while it moves on": "{left}后仍无进展则重新启动",
    "failures": "失败",
    "{count} in a row": "连续 {count} 次",
    "restarts": "重启",
    "{count} after a failure": "故障后 {count} 次",
    "note": "注意",
    "clients will refuse its certificate in {left}": "它的证书还有 {left} 到期，届时客户端将拒绝连接",
    "clients refuse its certificate: its time is over": "它的证书已过期，客户端拒绝连接",
    "its configuration, API key or certificate has changed since it was started": (
        "启动之后配置、API 密钥或证书已更换"
    ),
    "in force with: {command}": "使其生效：{command}",
    "model": "模型",
    "image": "镜像",
    "{model} at {url}": "{model}，地址 {url}",
    "runs on": "运行于",
    "unit": "单元",
    ", from {file}": "，来自 {file}",
    "supply": "供给",
    "update": "更新",
    "{what} is on trial until it has answered for 10 min": "{what} 正在试运行，持续应答 10 分钟后生效",
    "{what} is on trial for another {left}": "{what} 正在试运行，还需 {left}",
    "back to the former one: {command}": "退回之前的版本：{command}",
    "is being fetched; what runs goes on": "正在下载；现有服务不受影响",
    "{what} was undone {age} ago": "{what} 已于 {age}前撤销",
    "image {id}{model}": "镜像 {id}{model}",
    ", model revision {revision}": "，模型版本 {revision}",
    "looking for image and model": "正在查找镜像与模型",
    "asking for the {what}{source}": "正在{source}查询{what}",
    "fetching the {what}{source}": "正在{source}下载{what}",
    "checking the {what}{source}": "正在{source}校验{what}",
    "storing the {what}{source}": "正在{source}保存{what}",
    "writing the {what}{source}": "正在{source}写出{what}",
    " from {source}": "从 {source} ",
    "latest events": "最近事件",
    "  {age} ago  ": "  {age}前  ",
    "deepseek-agent {version}, mode {mode}, running for {age}": (
        "deepseek-agent {version}，模式：{mode}，已运行 {age}"
    ),
    # disks
    "disk {path}: {free} GiB free of {size}, below {mark}": (
        "磁盘 {path}：剩余 {free} GiB，共 {size} GiB，低于下限 {mark} GiB"
    ),
    "  {unused} that nobody uses go with: {command}": "  {unused} 无人使用，可清理：{command}",
    "  nothing of the agent's can go; see: df -h, podman system df": (
        "  没有可由 agent 清理的内容；请查看：df -h、podman system df"
    ),
    "left": "保留",
    "nothing to prune: all that is there is used, or not the agent's": (
        "没有可清理的内容：现有内容都在使用中，或不属于 agent"
    ),
    "{total} would be free; to remove it: {command}": "可释放 {total}；执行清理：{command}",
    "{total} are free now": "已释放 {total}",
    # NPUs
    "NPU driver{version}: {state}": "NPU 驱动{version}：{state}",
    ", by {source}": "，来源 {source}",
    "once it is well: {command}": "主机恢复正常后执行：{command}",
    "the host is suspected: {why}; nothing is done about NPUs": (
        "怀疑主机本身有问题：{why}；不对 NPU 做任何处理"
    ),
    "NPU": "NPU",
    "product": "产品",
    "health": "健康",
    "temp": "温度",
    "HBM": "HBM",
    "power": "功耗",
    "AI core": "AI Core",
    "memory": "显存",
    "used by": "使用者",
    "gone": "丢失",
    "free": "空闲",
    "nobody": "无",
    "process": "进程",
    "{device} does not exist": "{device} 不存在",
    "unknown: {why}": "状态未知：{why}",
    "not used: {why}": "不使用：{why}",
    "reset {count} times since it was last well": "自上次健康以来已复位 {count} 次",
    "set aside by {who} {age} ago": "{age}前由 {who} 隔离",
    "{aside}; used again in {left}": "{aside}；{left}后重新启用",
    "{aside}; used again {after} after its fault": "{aside}；故障消失 {after}后重新启用",
    "{aside}; until: {command}": "{aside}；解除隔离：{command}",
    "happened {age} ago": "{age}前发生",
    "for {age}": "已持续 {age}",
    ", not seen now": "，目前未出现",
    "NPU {npu} is set aside until: {command}": "NPU {npu} 已隔离；解除隔离：{command}",
    "; {name} stays on it until: {command}": "；{name} 仍在使用它，直到执行：{command}",
    "the host is trusted again": "重新信任本机",
    "NPU {npu} is used again; faults that are there count when they come anew": (
        "NPU {npu} 已重新启用；现存故障再次上报时才会处理"
    ),
    # top
    "{time}, the last {seconds:.0f} s": "{time}，最近 {seconds:.0f} 秒",
    "state": "状态",
    "out tok/s": "输出 tok/s",
    "in tok/s": "输入 tok/s",
    "running": "运行",
    "waiting": "排队",
    "KV cache": "KV 缓存",
    "first token": "首 token",
    # what was asked for
    "{name}: done": "{name}：完成",
    "{name} is being started; see: deepseekctl status --watch": (
        "{name} 正在启动；查看进度：deepseekctl status --watch"
    ),
    "{name} is being stopped; see: deepseekctl status --watch": (
        "{name} 正在停止；查看进度：deepseekctl status --watch"
    ),
    "{name} is being restarted; see: deepseekctl status --watch": (
        "{name} 正在重启；查看进度：deepseekctl status --watch"
    ),
    "{name} is being restarted anew; see: deepseekctl status --watch": (
        "{name} 正在重新规划并重启；查看进度：deepseekctl status --watch"
    ),
    "{name} is being stopped, on hold; see: deepseekctl status --watch": (
        "{name} 正在停止，并保持停止；查看进度：deepseekctl status --watch"
    ),
    "{name} is not on hold any more; see: deepseekctl status --watch": (
        "{name} 已解除保持；查看进度：deepseekctl status --watch"
    ),
    "{name}: image and model are there": "{name}：镜像与模型已就绪",
    "{name} is up to date": "{name} 已是最新",
    "{name}: {what} is there and goes on trial": "{name}：{what} 已就绪，开始试运行",
    "see: deepseekctl status --watch": "查看进度：deepseekctl status --watch",
    "{name} goes back to what it ran on before; see: deepseekctl events": (
        "{name} 正在退回之前的版本；查看：deepseekctl events"
    ),
    "  hint: {hint}\n": "  建议：{hint}\n",
    # the configuration
    "note: {note}\n": "注意：{note}\n",
    "the configuration can be used\n": "配置可以使用\n",
    "{names} use the same port {port}: only one of them can serve": (
        "{names} 使用同一端口 {port}：只能有一个提供服务"
    ),
    " and ": "、",
    # image build
    "deepseekctl: cannot build an image: {what}: {why}\n": (
        "deepseekctl: 无法构建镜像：{what}：{why}\n"
    ),
    # the support bundle
    "inside:   {count} files: {folders}": "内容：    {count} 个文件：{folders}",
    "removed:  {secrets} values that are secrets or may be, {lines} lines with prompts": (
        "已去除：  {secrets} 个是或可能是密钥的值，{lines} 行可能含提示词的内容"
    ),
    "missing:  {names}{more}; all of it in MANIFEST.txt": (
        "缺少：    {names}{more}；完整列表见 MANIFEST.txt"
    ),
    " and {count} more": "，另有 {count} 项",
    "missing:  what only root may see; run it as root for all of it": (
        "缺少：    只有 root 能看到的内容；请以 root 执行以收集全部"
    ),
    "look:     {advice}": "请检查：  {advice}",
    "A program has done that, and may have missed something: look into it before you send it.": (
        "以上由程序处理，可能有遗漏：发送之前请自行查看内容。"
    ),
    # bundles
    "{file}: {bundle}, {signed}": "{file}：{bundle}，{signed}",
    ", ": "，",
    "signed": "已签名",
    "not signed": "未签名",
    "whole: {bundle}, {trust}": "完整：{bundle}，{trust}",
    "image brought": "镜像已导入",
    "image was there already": "镜像原已存在",
    "model brought": "模型已导入",
    "{name} goes on with {what}; to try what was brought: {command}": (
        "{name} 继续使用 {what}；要试用导入的内容：{command}"
    ),
    "{name} takes the model with its next start, without a trial: {command}": (
        "{name} 下次启动时直接使用该模型，不经试用：{command}"
    ),
    "model was there already": "模型原已存在",
    "signed by {signer}": "签名者 {signer}",
    "signature not checked: there is no {signers}": "未检查签名：没有 {signers}",
    "bundle of {instance}{kind}, made {created}, {count} files, {gib:.2f} GiB": (
        "{instance} 的离线包{kind}，制作于 {created}，{count} 个文件，{gib:.2f} GiB"
    ),
    " for {architecture}": "（{architecture}）",
    # the doctor
    "no model was looked at: none is enabled; name one: deepseekctl doctor 8b": (
        "未检查任何模型：没有已启用的模型；可指定一个：deepseekctl doctor 8b"
    ),
    "; to mend: {checks}": "；需要处理：{checks}",
    "{count} errors": "{count} 项错误",
    "{count} warnings": "{count} 项警告",
}
