# SPDX-License-Identifier: MulanPSL-2.0
"""Messages and hints of the doctor, by their template."""

DOCTOR = {
    " (and {0} more)": "（另有 {0} 项）",
    " and {0} more": "，另有 {0} 项",
    "cannot be told: see {0}": "无法判断：见 {0}",
    "cannot finish this check: internal error: {0}": "无法完成此项检查：内部错误：{0}",
    "please report it; the other checks are not touched": "请报告此问题；其他检查不受影响",
    "cannot look at {0}: it does not answer within {1} s": "无法查看{0}：{1} 秒内没有应答",
    "only root may look at {0}": "只有 root 可以查看{0}",
    "cannot look at {0}: {1}": "无法查看{0}：{1}",
    # what is looked at
    "the configuration": "配置",
    "the kernel": "内核",
    "the clock": "时钟",
    "the driver's files": "驱动文件",
    "the disks": "磁盘",
    "the machine": "主机",
    "the agent": " agent",
    "the NPUs": " NPU",
    "the NPUs by deepseek-npud": " NPU（通过 deepseek-npud）",
    "the firmware by npu-smi": "固件（通过 npu-smi）",
    "the processes": "进程",
    "the host": "主机",
    "see: dmesg": "查看：dmesg",
    "its keys": "它的密钥",
    "Podman's generator": " Podman 的生成器",
    "Podman's storage": " Podman 的存储",
    # the host
    "cannot run the units: systemd is {0}, needed is {1} or newer": (
        "无法运行单元：systemd 版本为 {0}，需要 {1} 或更新"
    ),
    "upgrade the system: dnf upgrade systemd (openEuler 24.03 LTS or newer)": (
        "请升级系统：dnf upgrade systemd（openEuler 24.03 LTS 或更新）"
    ),
    "cannot limit containers: {0} has no controller {1}, and Podman refuses containers with such a "
    "limit": "无法限制容器资源：{0} 缺少控制器 {1}，Podman 会拒绝带此类限制的容器",
    "enable it on the kernel's command line (cgroup_enable=memory), or set pids_limit = 0 in "
    "/etc/containers/containers.conf": (
        "在内核命令行中启用（cgroup_enable=memory），或在 /etc/containers/containers.conf 中设置 "
        "pids_limit = 0"
    ),
    "{0}, with {1}": "{0}，有 {1}",
    "cannot run the agent: Python is {0}, needed is 3.11 or newer": (
        "无法运行 agent：Python 版本为 {0}，需要 3.11 或更新"
    ),
    "install the package made for this release: dnf install deepseek-agent": (
        "请安装与本系统版本对应的软件包：dnf install deepseek-agent"
    ),
    "{0} is {1}, {2} are wise": "{0} 为 {1}，建议 {2}",
    "cannot be sure that an engine with many threads starts: {0}": (
        "不能保证线程很多的引擎能够启动：{0}"
    ),
    "sysctl -w {0}={1}, and a file in /etc/sysctl.d for the next boot": (
        "sysctl -w {0}={1}，并在 /etc/sysctl.d 中写入文件以便重启后生效"
    ),
    "the kernel does not show its limits here": "此处看不到内核限制",
    "SELinux is {0}": "SELinux 状态为 {0}",
    "SELinux is enforcing, with the module of deepseek-agent": (
        "SELinux 状态为 enforcing，deepseek-agent 的策略模块已生效"
    ),
    "cannot be sure that a container may read models and use NPUs: SELinux is enforcing, and the "
    "module of deepseek-agent is not in force": (
        "不能保证容器可以读取模型、使用 NPU：SELinux 为 enforcing，而 deepseek-agent 的策略模块没有生效"
    ),
    "dnf install deepseek-agent-selinux; where it is installed: restorecon -RF /var/lib/deepseek "
    "/dev; what was denied: ausearch -m avc -ts recent": (
        "dnf install deepseek-agent-selinux；已安装时执行 restorecon -RF /var/lib/deepseek /dev；"
        "查看被拒绝的操作：ausearch -m avc -ts recent"
    ),
    "cannot trust the clock: it says {0}, and the package was made on {1}; certificates are refused "
    "then": "时钟不可信：显示 {0}，而软件包制作于 {1}；证书会因此被拒绝",
    "set it: timedatectl set-time, or: systemctl enable --now chronyd": (
        "请校准：timedatectl set-time，或 systemctl enable --now chronyd"
    ),
    "the kernel does not say whether the clock is synchronized; it is {0}": (
        "内核未说明时钟是否同步；当前为 {0}"
    ),
    "cannot trust the clock for long: nothing synchronizes it (it says {0})": (
        "时钟不能长期可信：没有时间同步（当前 {0}）"
    ),
    "systemctl enable --now chronyd; see: timedatectl": (
        "systemctl enable --now chronyd；查看：timedatectl"
    ),
    "synchronized, {0}": "已同步，{0}",
    "cannot look at any disk: none answers": "无法查看任何磁盘：都没有应答",
    "see: df -h, findmnt, dmesg": "查看：df -h、findmnt、dmesg",
    "{0} has {1} of {2} GiB free, {3} are to be": "{0} 剩余 {1} GiB，共 {2} GiB，应保留 {3} GiB",
    "cannot keep on writing for long: {0}": "不久将无法继续写入：{0}",
    "deepseekctl prune --dry-run shows what of ours can go; see: df -h, podman system df": (
        "deepseekctl prune --dry-run 显示可清理的内容；查看：df -h、podman system df"
    ),
    "{0}: {1} GiB free": "{0}：剩余 {1} GiB",
    # NPUs
    "see: dmesg, and whether npu-smi info answers; processes in state D hold the driver": (
        "查看 dmesg，以及 npu-smi info 是否应答；处于 D 状态的进程会占住驱动"
    ),
    "of unknown version": "版本未知",
    "cannot serve on {0}: no vllm-ascend image is made for it": (
        "无法在 {0} 上提供服务：没有适用的 vllm-ascend 镜像"
    ),
    "supported are Atlas 800I/800T A2 and A3, and 300I Duo": (
        "支持 Atlas 800I/800T A2、A3 与 300I Duo"
    ),
    "driver {0}, {1} NPUs{2}": "驱动 {0}，{1} 个 NPU{2}",
    "cannot find the Ascend driver: nothing of it is in /usr/local/Ascend or /usr/local/dcmi": (
        "未找到昇腾驱动：/usr/local/Ascend 与 /usr/local/dcmi 中没有它的文件"
    ),
    "install driver and firmware for this server (hiascend.com, *.run --full), then reboot": (
        "请安装本服务器的驱动与固件（hiascend.com，*.run --full），然后重启主机"
    ),
    "cannot rely on the driver: its installation is {0}, not complete (/etc/ascend_install.info)": (
        "驱动不可靠：安装状态为 {0}，不完整（/etc/ascend_install.info）"
    ),
    "install it again, and reboot": "请重新安装并重启主机",
    "cannot give a container the driver's libraries: {0} is missing": (
        "无法向容器提供驱动库：缺少 {0}"
    ),
    "install the driver with --full, then reboot": "请用 --full 安装驱动，然后重启主机",
    "cannot give a container npu-smi: {0} is missing": "无法向容器提供 npu-smi：缺少 {0}",
    ", version {0}": "，版本 {0}",
    "{0} paths for the container{1}": "容器所需的 {0} 个路径{1}",
    "there are none: see npu-driver": "没有设备文件：见 npu-driver",
    "cannot see any NPU: there is no /dev/davinci0 or any other": (
        "看不到任何 NPU：没有 /dev/davinci0 等设备文件"
    ),
    "load the driver: reboot after its installation; is the card seen? lspci -d 19e5: ; see: dmesg": (
        "请加载驱动：安装后重启主机；能否看到卡？lspci -d 19e5: ；查看：dmesg"
    ),
    "cannot give a container the NPUs: {0} does not exist": "无法向容器提供 NPU：{0} 不存在",
    "the driver makes it when it is loaded whole: see dmesg, and reboot": (
        "驱动完整加载后会创建它：查看 dmesg，并重启主机"
    ),
    "cannot use {0}: it is no device, something else made a file there": (
        "无法使用 {0}：它不是设备，该处被创建了普通文件"
    ),
    "remove it, and load the driver anew: reboot": "请删除它，并重启主机以重新加载驱动",
    "cannot use {0}: the driver tells of it, and its node is gone": (
        "无法使用 {0}：驱动报告有此芯片，但设备文件已丢失"
    ),
    "a container with /dev of the host may have removed it; reboot brings it back": (
        "可能被挂载主机 /dev 的容器删除；重启主机即可恢复"
    ),
    "cannot be sure that programs can open {0}": "不能保证程序可以打开 {0}",
    "the driver makes them 0660 HwHiAiUser: chmod 660, or install the driver anew": (
        "驱动创建时为 0660 HwHiAiUser：chmod 660，或重新安装驱动"
    ),
    "{0} NPUs and 3 managers, {1}": "{0} 个 NPU 与 3 个管理设备，{1}",
    "card {0} has {1}": "卡 {0} 为 {1}",
    "cannot rely on the firmware: the driver says that it does not fit ({0})": (
        "固件不可靠：驱动报告其不匹配（{0}）"
    ),
    "install the firmware that belongs to the driver, then reboot": (
        "请安装与驱动配套的固件，然后重启主机"
    ),
    "cannot rely on NPUs together: their firmware differs ({0})": (
        "各 NPU 的固件版本不一致（{0}），一起使用不可靠"
    ),
    "install the same firmware on all of them, then reboot": "请为全部 NPU 安装相同固件，然后重启主机",
    "the driver does not tell the firmware": "驱动未给出固件信息",
    ", fits the driver": "，与驱动匹配",
    "the driver does not answer": "驱动无应答",
    "see: deepseekctl npus, which says for each fault what to do": (
        "查看 deepseekctl npus，其中有每个故障的处理建议"
    ),
    "cannot rely on {0}": "不可靠：{0}",
    "cannot rely on {0} for long": "不能长期依赖：{0}",
    "{0} of {1} are well": "{1} 个中有 {0} 个正常",
    "cannot use all NPUs: {0}": "无法使用全部 NPU：{0}",
    "stop it, or leave these NPUs to it: the agent takes others": (
        "请停止它；或把这些 NPU 留给它，agent 会使用其他 NPU"
    ),
    "only root can tell who has an NPU open": "只有 root 能看到谁打开了 NPU",
    "{0} have models of ours, the others nobody": "{0} 个由本机模型使用，其余空闲",
    "all are free": "全部空闲",
    "systemctl restart deepseek-npud; when that does not end: a driver call hangs, see dmesg": (
        "systemctl restart deepseek-npud；若它不返回，说明驱动调用挂起，请查看 dmesg"
    ),
    "this is not the host's own mount namespace, and whoever asks the driver from outside it occupies "
    "the NPUs": "当前不在主机的挂载命名空间中，从其他命名空间查询驱动会占用 NPU",
    "only root may ask the driver, and the agent does not run": (
        "只有 root 可以查询驱动，且 agent 没有运行"
    ),
    "only root may ask npu-smi": "只有 root 可以运行 npu-smi",
    "there is no npu-smi to ask": "没有 npu-smi 可供查询",
    # Podman
    "see: podman --version": "查看：podman --version",
    "cannot use a quadlet here, as agent.toml wants: {0}; a plain unit takes its place": (
        "无法按 agent.toml 的要求使用 quadlet：{0}；改用普通单元"
    ),
    'set renderer = "auto" in /etc/deepseek-agent/agent.toml': (
        '在 /etc/deepseek-agent/agent.toml 中设置 renderer = "auto"'
    ),
    "a plain systemd unit ({0})": "普通 systemd 单元（{0}）",
    "cannot use a quadlet: Podman's generator is not in /usr/lib/systemd/system-generators; a plain "
    "unit takes its place": (
        "无法使用 quadlet：/usr/lib/systemd/system-generators 中没有 Podman 的生成器；改用普通单元"
    ),
    "a quadlet ({0})": "quadlet（{0}）",
    "answers, {0} of {1} containers run": "有应答，{1} 个容器中 {0} 个在运行",
    "cannot store images well: the driver {0} in {1} makes a whole copy of each layer": (
        "不适合存储镜像：{1} 中的存储驱动 {0} 会完整复制每一层"
    ),
    'set driver = "overlay" in /etc/containers/storage.conf before images are there, on a file '
    "system that can do it (xfs, ext4)": (
        '请在存入镜像之前，在 /etc/containers/storage.conf 中设置 driver = "overlay"，'
        "并使用支持它的文件系统（xfs、ext4）"
    ),
    "cannot tell how {0} is kept": "无法得知 {0} 的存储方式",
    "see: podman info": "查看：podman info",
    "see: systemctl status podman.socket podman.service": (
        "查看：systemctl status podman.socket podman.service"
    ),
    "only root may ask Podman for its containers and images": "只有 root 可以查看容器与镜像",
    "Podman is not installed": "未安装 Podman",
    "cannot ask Podman: {0} is masked": "无法查询 Podman：{0} 已被屏蔽",
    "{0} is not active yet: deepseek-agent starts it": "{0} 尚未启动：deepseek-agent 会启动它",
    "to see more: systemctl start {0}": "查看更多：systemctl start {0}",
    # the agent
    "cannot serve {0}: refused at the start, and waits for somebody": (
        "无法提供 {0}：启动被拒绝，等待人工处理"
    ),
    "what deepseekctl status says; then: systemctl start {0}": (
        "按 deepseekctl status 的提示处理，然后：systemctl start {0}"
    ),
    "cannot serve {0}: it is to serve, and there is no profile of that name": (
        "无法提供 {0}：它应提供服务，但没有该名称的模型配置文件"
    ),
    "write /etc/deepseek-agent/models.d/{0}.toml, or: systemctl disable --now deepseek@{1}": (
        "请编写 /etc/deepseek-agent/models.d/{0}.toml，或执行：systemctl disable --now deepseek@{1}"
    ),
    'cannot start or mend anything: mode = "observe", the agent only watches': (
        '不会启动或修复任何内容：mode = "observe"，agent 仅观察'
    ),
    'set mode = "act" in /etc/deepseek-agent/agent.toml; systemctl reload deepseek-agent': (
        '在 /etc/deepseek-agent/agent.toml 中设置 mode = "act"；systemctl reload deepseek-agent'
    ),
    "can be used, {0} models are described": "可以使用，描述了 {0} 个模型",
    "the package is not installed: there are no units of it": "未安装软件包：没有它的单元",
    "cannot use {0}: systemd does not know it": "无法使用 {0}：systemd 中没有它",
    "systemctl daemon-reload; else: dnf reinstall deepseek-agent": (
        "systemctl daemon-reload；不行则 dnf reinstall deepseek-agent"
    ),
    "cannot start {0}: it is masked": "无法启动 {0}：它已被屏蔽（masked）",
    "cannot keep {0} up: it failed ({1})": "{0} 无法持续运行：已失败（{1}）",
    "socket, agent and npud are up": "套接字、agent 与 npud 均在运行",
    "cannot look after {0}: {1} is not active": "无法照看 {0}：{1} 没有运行",
    "systemctl start {0}; see: systemctl status deepseek-agent": (
        "systemctl start {0}；查看：systemctl status deepseek-agent"
    ),
    "cannot reach the agent: deepseek-agent.socket is not active (nor is a model wished)": (
        "无法连接 agent：deepseek-agent.socket 没有启用（也没有需要服务的模型）"
    ),
    "systemctl start deepseek-agent.socket; starting a model does so too": (
        "systemctl start deepseek-agent.socket；启动模型时也会自动启用"
    ),
    "not needed yet, {0} starts with the first model": "暂不需要，{0} 随第一个模型启动",
    "the agent does not run": "agent 没有运行",
    "journalctl -b -u deepseek-agent; systemctl restart deepseek-agent": (
        "journalctl -b -u deepseek-agent；systemctl restart deepseek-agent"
    ),
    "cannot trust the NPUs of this host: {0}": "本机的 NPU 不可信：{0}",
    "once it is well: deepseekctl quarantine clear host": (
        "恢复正常后执行：deepseekctl quarantine clear host"
    ),
    "cannot use a profile: {0}": "有模型配置文件无法使用：{0}",
    "answers, {0} models known": "有应答，已知 {0} 个模型",
    "cannot expect what is installed: the agent that runs is {0}, installed is {1}": (
        "运行的版本与安装的不一致：运行的 agent 为 {0}，已安装 {1}"
    ),
    "systemctl restart deepseek-agent (what serves is not disturbed)": (
        "systemctl restart deepseek-agent（不影响正在提供的服务）"
    ),
    "{0} runs, as installed": "运行的即已安装的版本 {0}",
    "deepseek-npud does not run": "deepseek-npud 没有运行",
    # a model
    "the model is not there yet": "模型尚未下载",
    "the package is not installed: there is no deepseek@.service": (
        "未安装软件包：没有 deepseek@.service"
    ),
    "it ended as {0}": "结束状态为 {0}",
    "cannot bring {0} back after a reboot: {1} runs and is not enabled": (
        "重启主机后 {0} 不会恢复：{1} 在运行但未启用"
    ),
    "{0} cores, {1} are needed": "{0} 核，需要 {1}",
    "{0} GiB of RAM, {1} are needed": "{0} GiB 内存，需要 {1}",
    "{0} is not there": "{0} 不存在",
    "deepseekctl pull {0} mends it, as the next start does": (
        "deepseekctl pull {0} 会修复它，下次启动时也会自动修复"
    ),
    "move {0} away, and it is fetched anew; or copy it there again, whole": (
        "移走 {0} 后会重新下载；或重新复制完整的文件"
    ),
    "{0} GiB of weights, {1}": "{0} GiB 权重，{1}",
    "answers, by {0}": "有应答，来源 {0}",
    "{0} GiB of weights": "{0} GiB 权重",
    "all of its manifest": "与清单一致",
    "no manifest to compare it with": "没有清单可供比对",
    "{0}; it is fetched at the first start": "{0}；首次启动时下载",
    "this profile has no source for it": "模型配置中没有它的下载源",
    "cannot serve {0}: {1}, and it is not fetched by itself ({2})": (
        "无法提供 {0}：{1}，且不会自动下载（{2}）"
    ),
    "deepseekctl pull {0}, or a bundle on a disk: deepseekctl bundle import": (
        "deepseekctl pull {0}，或用磁盘上的离线包：deepseekctl bundle import"
    ),
    "its config.json cannot be read": "无法读取它的 config.json",
    "cannot share {0} among {1} NPUs evenly": "{0} 无法平均分配到 {1} 个 NPU",
    'set npus = "auto", or as many as {0}, in /etc/deepseek-agent/models.d/{1}.toml': (
        '在 /etc/deepseek-agent/models.d/{1}.toml 中设置 npus = "auto"，或数量为 {0}'
    ),
    "{0}: for {1} NPUs": "{0}：可用 {1} 个 NPU",
    "nobody can tell how many NPUs share it: see model": "无法得知需要几个 NPU：见 model",
    "cannot have all NPUs: {0}": "无法使用全部 NPU：{0}",
    "cannot have NPUs that are well: {0}": "没有健康的 NPU 可用：{0}",
    "see: deepseekctl npus": "查看：deepseekctl npus",
    "it would have {0} of {1}": "将使用 {0}，共 {1} 个",
    "{0} is not in Podman's storage": "Podman 存储中没有 {0}",
    "cannot run {0}: it is made for {1}, this machine is {2}": (
        "无法运行 {0}：它用于 {1}，本机为 {2}"
    ),
    "podman rmi {0}, then: deepseekctl pull {1}": "podman rmi {0}，然后 deepseekctl pull {1}",
    "of unknown architecture": "架构未知",
    "nothing has to be fetched": "无需下载",
    "nothing is fetched by itself: [supply] fetch = false": "不自动下载：[supply] fetch = false",
    "no source is configured for what is missing": "缺少的内容没有配置下载源",
    "see: df -h, and: deepseekctl prune --dry-run; `models_dir` of agent.toml, or Podman's "
    "graphroot, may be on another disk": (
        "查看 df -h 与 deepseekctl prune --dry-run；agent.toml 的 `models_dir` 或 Podman 的 graphroot "
        "可以放在另一块磁盘"
    ),
    "cannot fetch anything: {0} GiB are to stay free, and {1}": (
        "无法下载：应保留 {0} GiB，而 {1}"
    ),
    "it may need {0} GiB, {1} are to stay free, and {2}": "可能需要 {0} GiB，应保留 {1} GiB，而 {2}",
    "cannot be sure that {0} can be fetched: {1}": "不能保证 {0} 可以下载：{1}",
    "{0} has {1} GiB free": "{0} 剩余 {1} GiB",
    "none is asked for": "未要求",
    "only root may read keys": "只有 root 可以读取密钥",
    "can be used": "可以使用",
    "{0} is ours": "{0} 由本实例使用",
    "somebody listens on {0}: only root can tell whether it is ours": (
        "有程序监听 {0}：只有 root 能判断是否为本实例"
    ),
    "{0} is free": "{0} 空闲",
    "a proxy looks names up": "由代理解析域名",
    "cannot look up {0}: {1}": "无法解析 {0}：{1}",
    "see /etc/resolv.conf, and: getent hosts NAME; without internet: deepseekctl bundle": (
        "查看 /etc/resolv.conf 与 getent hosts 域名；没有互联网时：deepseekctl bundle"
    ),
    "{0}: each answers": "{0}：均有应答",
    "a proxy: systemctl edit deepseek-supply@.service, and podman.service for the image "
    "(Environment=HTTPS_PROXY=...); a mirror: [supply] of agent.toml; without internet: "
    "deepseekctl bundle": (
        "代理：systemctl edit deepseek-supply@.service，镜像另需 podman.service"
        "（Environment=HTTPS_PROXY=...）；镜像站：agent.toml 的 [supply]；没有互联网时：deepseekctl bundle"
    ),
    "deepseek-supply@ has a proxy, and podman.service, which pulls it, has none: {0}": (
        "deepseek-supply@ 设有代理，而拉取镜像的 podman.service 没有：{0}"
    ),
    "cannot pull the image: {0}": "无法拉取镜像：{0}",
    "cannot pull the image from everywhere: {0}": "有镜像来源无法拉取：{0}",
    "systemctl edit podman.service ([Service], Environment=HTTPS_PROXY=...), then: systemctl "
    "try-restart podman.service": (
        "systemctl edit podman.service（[Service]，Environment=HTTPS_PROXY=...），然后：systemctl "
        "try-restart podman.service"
    ),
    "cannot fetch what is missing: {0}": "无法下载缺少的内容：{0}",
    "cannot reach every source: {0}": "有下载源无法访问：{0}",
    "is a network file system hung? see: dmesg, findmnt": (
        "是否有网络文件系统挂起？查看：dmesg、findmnt"
    ),
}
