# SPDX-License-Identifier: MulanPSL-2.0
"""Messages and hints that come whole, by their template: of the plan, the client, chat."""

MESSAGES = {
    # deepseekctl itself
    "cannot reach the agent at {0}: {1}": "无法通过 {0} 连接 agent：{1}",
    "systemctl start deepseek-agent.socket; systemctl status deepseek-agent": (
        "systemctl start deepseek-agent.socket；查看：systemctl status deepseek-agent"
    ),
    "cannot understand the agent's answer: {0}": "无法理解 agent 的应答：{0}",
    "are agent and deepseekctl of the same version? systemctl restart deepseek-agent": (
        "agent 与 deepseekctl 版本是否一致？systemctl restart deepseek-agent"
    ),
    "cannot {0} {1}: there is no such instance": "无法执行（{0} {1}）：没有这个实例",
    "deepseekctl status shows what there is": "现有实例见：deepseekctl status",
    "cannot chat with {0} at {1}: {2}": "无法与 {0}（{1}）对话：{2}",
    "it does not serve": "它未提供服务",
    "its certificate {0}: {1}": "它的证书 {0}：{1}",
    "the answer is not what vLLM sends: {0}": "应答不是 vLLM 的格式：{0}",
    "it is: {0}": "当前状态：{0}",
    # a plan
    "cannot use the NPUs yet: {0} does not exist": "暂时无法使用 NPU：{0} 不存在",
    "the Ascend driver creates it when it is loaded: systemctl status, dmesg": (
        "昇腾驱动加载后会创建它；查看：systemctl status、dmesg"
    ),
    "cannot see an NPU driver: {0}": "未发现 NPU 驱动：{0}",
    "no /dev/davinci* devices": "没有 /dev/davinci* 设备",
    "install the Ascend driver and firmware, or wait until it is loaded": (
        "请安装昇腾驱动与固件，或等待驱动加载"
    ),
    "cannot use the NPU driver: {0}": "无法使用 NPU 驱动：{0}",
    "see dmesg; after an upgrade of driver or firmware the host has to be rebooted": (
        "查看 dmesg；驱动或固件升级之后需要重启主机"
    ),
    "cannot tell the state of the NPUs: {0}": "无法得知 NPU 的状态：{0}",
    "no answer yet": "尚无应答",
    "no answer": "无应答",
    "systemctl start deepseek-agent; then: systemctl status deepseek-npud": (
        "systemctl start deepseek-agent；然后查看：systemctl status deepseek-npud"
    ),
    "not installed": "未安装",
    "cannot run the container: Podman is {0}, needed is 3.4 or newer": (
        "无法运行容器：Podman 版本为 {0}，需要 3.4 或更新"
    ),
    "{0} GiB of RAM": "{0} GiB 内存",
    "{0} CPU cores": "{0} 个 CPU 核",
    "{0} GiB of disk": "{0} GiB 磁盘",
    "cannot serve {0}: it needs {1}, this host has {2}": ("无法提供 {0}：它需要 {1}，本机有 {2}"),
    "choose a smaller model, or lower [needs] in /etc/deepseek-agent/models.d/{0}.toml if you know "
    "that it fits": (
        "请选择更小的模型；如果确定可以运行，可在 /etc/deepseek-agent/models.d/{0}.toml 中调低 [needs]"
    ),
    "cannot serve {0}: the facts do not tell about it": "无法提供 {0}：事实文件中没有它的信息",
    "take the facts on a host that has the model: deepseekctl facts --json": (
        "请在有该模型的主机上采集：deepseekctl facts --json"
    ),
    "cannot serve {0}: {1}": "无法提供 {0}：{1}",
    "put the model's files there, whole, then: systemctl start the instance again": (
        "把完整的模型文件放到该处，然后重新启动实例：systemctl start"
    ),
    "it is checked and mended by itself; where that does not help, another revision may: deepseekctl update {0} --revision REV": (
        "会自动检查并修复；若无效，可换用其他版本：deepseekctl update {0} --revision 版本"
    ),
    "cannot run {0}: the image is not in Podman's storage": "无法运行 {0}：Podman 存储中没有该镜像",
    "podman pull {0}, or podman load -i FILE": "podman pull {0}，或 podman load -i 文件",
    "cannot use {0} {1}: {2}": "无法使用 {0} {1}：{2}",
    "mend the file, or {0} in /etc/deepseek-agent/models.d/{1}.toml": (
        "修正该文件，或 /etc/deepseek-agent/models.d/{1}.toml 中的 {0}"
    ),
    "deepseek@{0} has it": "deepseek@{0} 正在使用它",
    "something else listens on {0}": "另有程序监听 {0}",
    "cannot serve {0} on port {1}: {2}": "无法在端口 {1} 上提供 {0}：{2}",
    "choose another `port`, or see who it is: ss -ltnp sport = :{0}": (
        "换一个 `port`，或查看是谁占用：ss -ltnp sport = :{0}"
    ),
    " and {0} key-value heads": "和 {0} 个键值头",
    "{0} attention heads{1}": "{0} 个注意力头{1}",
    'cannot choose NPUs: npus = "{0}" is not known': '无法选择 NPU：npus = "{0}" 无法识别',
    'use "auto", "all" or a list of logic ids': '可用 "auto"、"all" 或逻辑编号列表',
    "the other die of its module is not free": "同一模组的另一颗芯片不空闲",
    "free, {0} MiB": "空闲，{0} MiB",
    "cannot place the model: it needs {0} MiB of NPU memory on a number of NPUs that divides its "
    "{1}; there are: {2}": (
        "无法放置模型：需要 {0} MiB 显存，且 NPU 数量能整除它的 {1}；现有：{2}"
    ),
    "free NPUs that something else holds, or choose a smaller model; see: deepseekctl status": (
        "释放被其他程序占用的 NPU，或选择更小的模型；查看：deepseekctl status"
    ),
    "this host has {0}": "本机有 {0}",
    "{0} of {1} NPUs; {2}": "{1} 个 NPU 中使用 {0} 个；{2}",
    "cannot do without the NPUs that are lost ({0}): no number of the others ({1}) has {2} MiB of "
    "NPU memory and divides the model's {3}": (
        "缺少丢失的 NPU（{0}）无法运行：其余 NPU（{1}）的任何数量都不能既有 {2} MiB 显存又整除模型的 {3}"
    ),
    "replace the NPU, or see: deepseekctl npus, deepseekctl quarantine clear N": (
        "更换 NPU；或查看 deepseekctl npus、解除隔离 deepseekctl quarantine clear N"
    ),
    "cannot start yet: it takes an NPU that is being mended ({0})": (
        "暂时无法启动：需要的 NPU 正在恢复（{0}）"
    ),
    "wait: it is started when the NPU is well, or without it if that is not to be; "
    "see: deepseekctl npus": (
        "请等待：NPU 恢复后自动启动；若不能恢复，则不用它启动；查看：deepseekctl npus"
    ),
    "cannot use {0} NPUs: the model has {1}, which {2} does not divide": (
        "无法使用 {0} 个 NPU：模型有 {1}，不能被 {2} 整除"
    ),
    "list a number of NPUs that divides the attention heads": "请列出能整除注意力头数的 NPU 数量",
    "the dies {0} of its module go together": "同一模组的芯片 {0} 必须一起使用",
    "cannot use the NPUs {0}: the model needs {1} MiB of NPU memory, they have {2}": (
        "无法使用 NPU {0}：模型需要 {1} MiB 显存，它们共有 {2}"
    ),
    "list more NPUs, or lower needs.npu_memory_gib of the profile if you know that it fits": (
        "请列出更多 NPU；如果确定可以运行，可调低模型配置中的 needs.npu_memory_gib"
    ),
    "{0} does not exist": "{0} 不存在",
    "the host is suspected ({0}): the alarm of the NPUs {1} does not count": (
        "怀疑主机本身有问题（{0}）：NPU {1} 的告警不作数"
    ),
    "its health is {0}": "健康状态为 {0}",
    "the model is not for {0}": "模型不支持 {0}",
    "a chip that the driver does not name": "驱动未给出型号的芯片",
    "the driver does not tell its memory": "驱动未给出显存大小",
    "cannot use the NPUs of this host ({0}): the model is for {1}": (
        "无法使用本机的 NPU（{0}）：模型支持的是 {1}"
    ),
    "choose a model for this NPU, or add it to `products` of the profile if you know that the image "
    "serves the model on it": (
        "请选择支持该 NPU 的模型；如果确定镜像能在其上运行，可加入模型配置的 `products`"
    ),
    "correct `npus` of the model profile": "请修正模型配置中的 `npus`",
    "wait: it is started when the NPU is free, by itself or by a reset": (
        "请等待：NPU 空闲（自行释放或复位）后自动启动"
    ),
    "cannot use NPU {0}: {1}": "无法使用 NPU {0}：{1}",
    "holds it": "占用它",
    "container {0}": "容器 {0}",
    "container {0}, {1}": "容器 {0}，{1}",
    "{0} of an engine that is being stopped": "{0}，属于正在停止的引擎",
    "that no process is known to hold": "不知被哪个进程占用",
    "of {0} that ended and did not give it back": "属于已结束却未释放的 {0}",
    "memory {0} ({1})": "显存{0}（{1}）",
    "memory {0} ({1}) is in use": "显存{0}（{1}）",
    "{0}: set aside: {1}": "{0}：已隔离：{1}",
    "set aside: {0}": "已隔离：{0}",
    "is in use": "正在使用",
    "process {0}": "进程 {0}",
}
