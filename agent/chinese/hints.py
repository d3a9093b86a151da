# SPDX-License-Identifier: MulanPSL-2.0
"""What a person can do about a failure, by the template of its hint."""

HINTS = {
    # the engine
    "are all of them well, and the network between them: deepseekctl npus; hccn_tool": (
        "请检查它们及其间的网络是否正常：deepseekctl npus；hccn_tool"
    ),
    "deepseekctl logs INSTANCE shows the engine's last words": "引擎最后的输出见：deepseekctl logs 实例名",
    "deepseekctl logs {0}; where only the disk is slow: start_budget_s in its profile": (
        "查看 deepseekctl logs {0}；若只是磁盘慢，可调大模型配置中的 start_budget_s"
    ),
    "deepseekctl npus tells what the driver says of it; dmesg": (
        "驱动的说明见 deepseekctl npus；并查看 dmesg"
    ),
    "deepseekctl npus; does something else use the NPU: npu-smi info; dmesg": (
        "查看 deepseekctl npus；是否有其他程序占用 NPU：npu-smi info；dmesg"
    ),
    "deepseekctl npus; npu-smi info": "查看 deepseekctl npus；npu-smi info",
    "if it comes again: lower vllm.max_model_len or vllm.gpu_memory_utilization in the profile, or give it more NPUs; who else uses the NPU: npu-smi info": (
        "若再次出现：调低模型配置中的 vllm.max_model_len 或 vllm.gpu_memory_utilization，或使用更多 NPU；"
        "查看还有谁占用 NPU：npu-smi info"
    ),
    "what the agent has brought it mends by itself; where that does not help: deepseekctl update INSTANCE --revision REV; your own: compare its files with their published checksums, and copy the damaged ones again; it is started by itself when they have changed": (
        "agent 自己取来的模型会自动修复；若无效：deepseekctl update 实例名 --revision 版本；"
        "您自己的模型：请与发布的校验和比对，重新复制损坏的文件；文件变化后会自动重新启动"
    ),
    "it is started by itself when the profile has changed: systemctl reload deepseek-agent": (
        "修改模型配置后自动启动：systemctl reload deepseek-agent"
    ),
    "is ASCEND_RT_VISIBLE_DEVICES in the profile's environment? It counts from 0 inside the container. SELinux can refuse it, too: ausearch -m avc": (
        "模型配置的环境变量中是否有 ASCEND_RT_VISIBLE_DEVICES？容器内从 0 开始编号。"
        "也可能被 SELinux 拒绝：ausearch -m avc"
    ),
    "is the driver well on the host: npu-smi info, dmesg": "主机上的驱动是否正常：npu-smi info、dmesg",
    "use an image made for this driver, or install the driver and firmware that it needs": (
        "请使用与本驱动配套的镜像，或安装镜像所需的驱动与固件"
    ),
    "use an image with a newer vLLM (image in the profile), or another model": (
        "请使用带有更新 vLLM 的镜像（模型配置中的 image），或换一个模型"
    ),
    "while it gives no token it is replaced after 30 min only; is --disable-log-stats in vllm.extra_args? Else its vLLM is newer than this agent: update deepseek-agent": (
        "若它不再产出 token，30 分钟之后才会替换；vllm.extra_args 中是否有 --disable-log-stats？"
        "否则就是它的 vLLM 比本 agent 新：请升级 deepseek-agent"
    ),
    "it is replaced by itself; what was seen of it is in the evidence: deepseekctl events": (
        "会自动替换引擎；现场证据的位置见：deepseekctl events"
    ),
    "it is started again by itself, on other NPUs or after a reset; see: deepseekctl npus": (
        "会自动在其他 NPU 上启动，或复位后再启动；查看：deepseekctl npus"
    ),
    "it is started again by itself; the engine's last words: deepseekctl logs INSTANCE": (
        "会自动再次启动；引擎最后的输出见：deepseekctl logs 实例名"
    ),
    "it hangs in the kernel, most likely in the NPU driver: see dmesg; a reboot ends it": (
        "它挂在内核中，很可能在 NPU 驱动里：查看 dmesg；重启主机可以恢复"
    ),
    "systemctl status {0}; a process that hangs in the driver needs a reboot": (
        "查看 systemctl status {0}；挂在驱动中的进程只能靠重启主机结束"
    ),
    "who else starts containers with its unit's label? see: podman ps --all": (
        "还有谁用该单元的标签启动容器？查看：podman ps --all"
    ),
    "who else uses the NPU: npu-smi info": "查看还有谁占用 NPU：npu-smi info",
    "who it is: npu-smi info; an engine that has just ended may still be letting go of it": (
        "查看占用者：npu-smi info；刚结束的引擎可能还在释放"
    ),
    "who it is: npu-smi info; podman ps --all": "查看占用者：npu-smi info；podman ps --all",
    "who it is: ss -ltnp": "查看占用者：ss -ltnp",
    "firewall rules were flushed or reloaded; Podman's are put back by themselves": (
        "防火墙规则被清空或重载；Podman 的规则会自动恢复"
    ),
    "settings were put in force again (sysctl --system); Podman sets it back by itself; find the file that has it as 0: grep -r forward /etc/sysctl.conf /etc/sysctl.d": (
        "内核参数被重新加载（sysctl --system）；Podman 会自动恢复；"
        "请找出将其设为 0 的文件：grep -r forward /etc/sysctl.conf /etc/sysctl.d"
    ),
    "correct vllm.extra_args in the profile, or use the image that it was written for; it is started by itself when the profile has changed: systemctl reload deepseek-agent": (
        "请更正模型配置中的 vllm.extra_args，或使用与其对应的镜像；"
        "修改模型配置后自动启动：systemctl reload deepseek-agent"
    ),
    "correct vllm.reasoning_parser in the profile; empty: none. it is started by itself when the profile has changed: systemctl reload deepseek-agent": (
        "请更正模型配置中的 vllm.reasoning_parser；留空表示不使用。"
        "修改模型配置后自动启动：systemctl reload deepseek-agent"
    ),
    "does vllm.extra_args or environment set a port? deepseekctl logs INSTANCE shows the engine's last words": (
        "vllm.extra_args 或环境变量是否设置了端口？引擎最后的输出见：deepseekctl logs 实例名"
    ),
    "lower vllm.max_model_len in the profile. it is started by itself when the profile has changed: systemctl reload deepseek-agent": (
        "请调低模型配置中的 vllm.max_model_len。"
        "修改模型配置后自动启动：systemctl reload deepseek-agent"
    ),
    "lower vllm.max_model_len, raise vllm.gpu_memory_utilization, or give it more NPUs (npus). it is started by itself when the profile has changed: systemctl reload deepseek-agent": (
        "请调低 vllm.max_model_len、调高 vllm.gpu_memory_utilization，或使用更多 NPU（npus）。"
        "修改模型配置后自动启动：systemctl reload deepseek-agent"
    ),
    'set vllm.dtype in the profile: "float16" runs on all of them, 310P has nothing else. it is started by itself when the profile has changed: systemctl reload deepseek-agent': (
        '请在模型配置中设置 vllm.dtype："float16" 在所有 NPU 上可用，310P 只支持它。'
        "修改模型配置后自动启动：systemctl reload deepseek-agent"
    ),
    # units and requests
    "is this host booted with systemd? see: systemctl is-system-running": (
        "本机是否由 systemd 启动？查看：systemctl is-system-running"
    ),
    "it is read again by itself; is memory short, or a disk ill? see: free, dmesg": (
        "会自动重新读取；内存不足，或磁盘有故障？查看：free、dmesg"
    ),
    "is memory short, or a disk ill? see: free, dmesg": (
        "内存不足，或磁盘有故障？查看：free、dmesg"
    ),
    "see: systemctl status dbus": "查看：systemctl status dbus",
    "remove {0}, then: systemctl daemon-reload": "删除 {0}，然后执行：systemctl daemon-reload",
    "systemctl status deepseek@{0}": "查看：systemctl status deepseek@{0}",
    "journalctl -b -u {0}; systemctl list-jobs": "查看：journalctl -b -u {0}；systemctl list-jobs",
    "why: journalctl -b -1": "原因：journalctl -b -1",
    "systemctl status {0}; journalctl -b -t quadlet-generator -t podman-system-generator": (
        "查看：systemctl status {0}；journalctl -b -t quadlet-generator -t podman-system-generator"
    ),
    "systemctl unmask {0} (where it was masked so: --runtime)": (
        "systemctl unmask {0}（若以 --runtime 屏蔽，则加 --runtime）"
    ),
    "systemctl unmask {0}; systemctl start {1}": "执行：systemctl unmask {0}；systemctl start {1}",
    "when that is over: deepseekctl release {0}": "处理完毕后执行：deepseekctl release {0}",
    "to end that one: deepseekctl rollback {0}": "结束当前更新：deepseekctl rollback {0}",
    "to restart it all the same: deepseekctl restart {0}": "仍要重启：deepseekctl restart {0}",
    'set mode = "act" in /etc/deepseek-agent/agent.toml': (
        '在 /etc/deepseek-agent/agent.toml 中设置 mode = "act"'
    ),
    "deepseekctl npus shows them": "现有 NPU 见：deepseekctl npus",
    "what happened: deepseekctl events": "经过见：deepseekctl events",
    "it comes with the package: dnf reinstall deepseek-agent": (
        "它随软件包提供：dnf reinstall deepseek-agent"
    ),
    "run it as root": "请以 root 执行",
    "run it as root, or as a member of the group {0}": "请以 root 或 {0} 组成员的身份执行",
    "run it as root, or put the key into the variable {0}": "请以 root 执行，或把密钥放入环境变量 {0}",
    "try again": "请重试",
    "try again later": "请稍后重试",
    "wait for it; see: systemctl list-units 'deepseek*'": (
        "请等待它结束；查看：systemctl list-units 'deepseek*'"
    ),
    "it is tried again; `ss -ltnp` shows who listens where": (
        "会自动重试；用 `ss -ltnp` 查看谁在监听"
    ),
    "umask 077; openssl rand -hex 32 > {0}": "执行：umask 077; openssl rand -hex 32 > {0}",
    "write it as 4.9.4": "写法如 4.9.4",
    "write it as 512M or 2G": "写法如 512M 或 2G",
    "write them with: deepseekctl facts --json (examples: {0})": (
        "采集事实：deepseekctl facts --json（示例见 {0}）"
    ),
    # disks and files
    "deepseekctl prune": "执行：deepseekctl prune",
    "make room (see: df -h {0}), or {1}": "请腾出空间（查看 df -h {0}），或 {1}",
    "make room there, or {0}; see: df -h": "请在该处腾出空间，或 {0}；查看：df -h",
    "see: df -h /etc, and: systemctl show -p ReadWritePaths deepseek-supply@8b": (
        "查看：df -h /etc；systemctl show -p ReadWritePaths deepseek-supply@8b"
    ),
    "see: df -h {0}": "查看：df -h {0}",
    "see: df -h {0}; dmesg": "查看：df -h {0}；dmesg",
    "see: df -h, and: podman system df": "查看：df -h；podman system df",
    "see: df -h, and: podman system df; what nobody uses goes with: podman image prune": (
        "查看：df -h；podman system df；清理无人使用的镜像：podman image prune"
    ),
    "see: df -h, and: systemctl show -p ReadWritePaths deepseek-agent": (
        "查看：df -h；systemctl show -p ReadWritePaths deepseek-agent"
    ),
    "see: dmesg, and: df -h; is it mounted read-only?": "查看：dmesg；df -h；是否以只读方式挂载？",
    "see: ls -l {0}; df -h {1}": "查看：ls -l {0}；df -h {1}",
    "it was set aside as {0}, which may be removed": "已改名为 {0} 保留，可以删除",
    # images and models
    "a private or gated repository needs a token (token_file) that may read it": (
        "私有或受限的仓库需要有读取权限的令牌（token_file）"
    ),
    "name it in the configuration as registry.example/name:tag, in small letters": (
        "请在配置中写为 registry.example/name:tag，使用小写字母"
    ),
    "correct `model` in the profile: the folder's name begins with no dot": (
        "请改正模型配置中的 `model`：目录名不能以点开头"
    ),
    "an endpoint is written https://HOST": "地址写法为 https://主机名",
    "allow that it is fetched ([supply] fetch, `sources`), then: deepseekctl restart INSTANCE; or remove {0}, and put the model or a bundle into /var/lib/deepseek/import": (
        "请允许自动下载（[supply] fetch、`sources`），然后执行：deepseekctl restart 实例名；"
        "或删除 {0}，并把模型或离线包放到 /var/lib/deepseek/import"
    ),
    "put the bundle or the folder that it came from into /var/lib/deepseek/import, or allow that it is fetched ([supply] fetch, `sources`); then: deepseekctl restart INSTANCE": (
        "请把它来自的离线包或目录放到 /var/lib/deepseek/import，"
        "或允许自动下载（[supply] fetch、`sources`）；然后执行：deepseekctl restart 实例名"
    ),
    "an engine that cannot read it has it brought again by itself; to do so now, remove the damaged files, then: deepseekctl restart INSTANCE": (
        "引擎无法读取时会自动重新下载；要立即处理，请删除损坏的文件，然后执行：deepseekctl restart 实例名"
    ),
    "are repository and revision spelled right? a private one needs a token": (
        "仓库与版本的拼写是否正确？私有仓库需要令牌"
    ),
    "compare it with where it came from": "请与来源处的文件比对",
    "copy the files themselves there: rsync --copy-links, or cp --dereference": (
        "请把文件本身复制到该处：rsync --copy-links，或 cp --dereference"
    ),
    "copy the model to the disk anew": "请重新把模型复制到磁盘",
    "fetch it with: deepseekctl pull INSTANCE": "下载：deepseekctl pull 实例名",
    "for a private authority set ca_file of this source, or tls_verify = false; a clock that is wrong does this too, see: timedatectl": (
        "若为私有证书机构，请设置该来源的 ca_file，或 tls_verify = false；"
        "时钟错误也会导致此问题，查看：timedatectl"
    ),
    "is it the right repository, and is this revision complete?": "仓库是否正确，该版本是否完整？",
    "it has to be a PEM file with the certificate of the authority": (
        "应为包含证书机构证书的 PEM 文件"
    ),
    "it is looked at again by itself": "会自动重新检查",
    "it is the certificate, in PEM, of who has signed that of the registry": (
        "应为签发镜像仓库证书者的 PEM 证书"
    ),
    "it is tried again; when it stays so, ask who runs the registry": (
        "会自动重试；若一直如此，请联系镜像仓库的管理者"
    ),
    "it is written OWNER/NAME, the revision is a branch, tag or commit": (
        "写法为 所有者/名称，版本为分支、标签或提交"
    ),
    "it is written by: podman login --authfile FILE REGISTRY": (
        "该文件由此命令生成：podman login --authfile 文件 仓库"
    ),
    "it was fetched twice; a proxy on the way may change it, or the hub is ill: name another source": (
        "已下载两次；可能被途中的代理改动，或来源有问题：请改用其他来源"
    ),
    "it was not fetched by the agent, so it is not replaced: copy it anew, or move {0} away and it is fetched": (
        "它不是 agent 下载的，因此不会被替换：请重新复制，或移走 {0} 后自动下载"
    ),
    "make the bundle on a machine that has it for {0}": "请在有 {0} 镜像的机器上制作离线包",
    "move {0} away, and it is brought": "移走 {0} 后会自动获取",
    "name a mirror that stays with https": "请使用全程 https 的镜像站",
    "name one, or copy the model to {0}": "请指定一个来源，或把模型复制到 {0}",
    "name that image in the profile": "请在模型配置中指定该镜像",
    "put an archive of it into {0} (podman save -o FILE.tar IMAGE)": (
        "把它的归档文件放到 {0}（podman save -o 文件.tar 镜像）"
    ),
    "remove this file when you know the model to be right; it is made anew": (
        "若确定模型无误，请删除此文件；它会重新生成"
    ),
    "remove those that are not in use": "请删除不再使用的内容",
    "see LoadCredential= of the unit, and: systemd-creds list": (
        "查看单元的 LoadCredential= 与 systemd-creds list"
    ),
    "see whether the registry can be reached from this host": "请检查本机能否访问该镜像仓库",
    "see whether the registry has this name and tag for this architecture": (
        "请检查镜像仓库中是否有此名称、标签与架构的镜像"
    ),
    "set auth_file for that registry under [registries] in agent.toml, or: podman login": (
        "请在 agent.toml 的 [registries] 中为该仓库设置 auth_file，或执行 podman login"
    ),
    "set ca_file, or tls_verify = false, for that one registry under [registries] in agent.toml": (
        "请在 agent.toml 的 [registries] 中为该仓库设置 ca_file，或 tls_verify = false"
    ),
    "something else than the hub may have answered; another source may be right": (
        "应答的可能不是该来源；可换用其他来源"
    ),
    "switch to another revision first": "请先切换到其他版本",
    "the file has to hold the token alone": "文件中只能有令牌本身",
    "write it into HTTPS_PROXY: http://USER:PASSWORD@HOST:PORT": (
        "写入 HTTPS_PROXY：http://用户:密码@主机:端口"
    ),
    # the way to a source
    "Podman pulls images without the proxy that supply has: systemctl edit podman.service "
    "([Service], Environment=HTTPS_PROXY=...), then: systemctl try-restart podman.service": (
        "Podman 拉取镜像时没有 supply 所用的代理：systemctl edit podman.service"
        "（[Service]，Environment=HTTPS_PROXY=...），然后：systemctl try-restart podman.service"
    ),
    "a proxy or a login page may answer instead of the hub; see: curl -v ADDRESS": (
        "应答的可能是代理或登录页面，而不是下载源；查看：curl -v 地址"
    ),
    "is there a way to it? see: curl -v {0}://{1}": "网络是否可达？查看：curl -v {0}://{1}",
    "it goes on from there; when this repeats: is a proxy or a firewall on the way?": (
        "会从中断处继续；若反复出现：途中是否有代理或防火墙？"
    ),
    "it is too busy or ill; it is asked again later": "来源繁忙或有问题；稍后会再次请求",
    "see HTTP_PROXY and HTTPS_PROXY": "请检查 HTTP_PROXY 与 HTTPS_PROXY",
    "see HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY; http:// and https:// proxies work": (
        "请检查 HTTP_PROXY、HTTPS_PROXY、ALL_PROXY 与 NO_PROXY；支持 http:// 与 https:// 代理"
    ),
    # the configuration
    "add the level, one of: {0}": "请加上 level，可选：{0}",
    "correct or remove the variable in the service's environment": (
        "请在服务的环境中更正或删除该变量"
    ),
    "copy the files there, then: deepseekctl config reload": (
        "把文件复制到该目录，然后执行：deepseekctl config reload"
    ),
    "correct the file, then: deepseekctl config check": (
        "更正该文件，然后执行：deepseekctl config check"
    ),
    "correct the key, then: deepseekctl config check": (
        "更正该键，然后执行：deepseekctl config check"
    ),
    "please report it; which file was changed last?": "请报告此问题；最近修改的是哪个文件？",
    "rename the file in models.d": "请重命名 models.d 中的该文件",
    "run it as root, or let others read it: ls -ld {0}": (
        "请以 root 执行，或允许其他用户读取：ls -ld {0}"
    ),
    # bundles
    "archives have no digest: bring it in a bundle (deepseekctl bundle create INSTANCE), or have `image` name a tag": (
        "镜像归档中没有摘要：请以离线包带入（deepseekctl bundle create 实例名），或让 `image` 使用标签"
    ),
    "bring it as a bundle (deepseekctl bundle create INSTANCE --sign KEY); {0} says who may sign": (
        "请以离线包带入（deepseekctl bundle create 实例名 --sign 密钥）；{0} 说明谁可以签名"
    ),
    "carry it again; if that does not help, ask who has made it": (
        "请重新复制；如无效，请联系制作者"
    ),
    "copy it again from the machine that made it, or try another disk": (
        "请从制作它的机器重新复制，或换一个磁盘"
    ),
    "do it again when nothing pulls images": "请在没有拉取镜像时重试",
    "fetch the model with: deepseekctl pull INSTANCE": "下载模型：deepseekctl pull 实例名",
    "for servers of that kind: --arch {0}": "用于该架构的服务器：--arch {0}",
    "is the disk still there? see: dmesg": "磁盘是否仍连接？查看：dmesg",
    "it is the ALLOWED SIGNERS file of ssh-keygen(1); while it is there it has to be read": (
        "它是 ssh-keygen(1) 的 ALLOWED SIGNERS 文件；只要存在就必须可读"
    ),
    "make a key with: ssh-keygen -t ed25519 -f {0}": "生成密钥：ssh-keygen -t ed25519 -f {0}",
    "make it anew: deepseekctl bundle create {0} --arch {1} -o DIR": (
        "重新制作：deepseekctl bundle create {0} --arch {1} -o 目录"
    ),
    "name an empty folder": "请指定一个空目录",
    "name another place: deepseekctl support-bundle -o /var/tmp/support.tar.gz": (
        "请指定其他位置：deepseekctl support-bundle -o /var/tmp/support.tar.gz"
    ),
    "name it as Podman does: {0}": "请使用 Podman 中的名称：{0}",
    "name the folder that `deepseekctl bundle create` has filled": (
        "请指定由 `deepseekctl bundle create` 生成的目录"
    ),
    "podman pull {0}": "执行：podman pull {0}",
    "see {0}; ssh-keygen says: {1}": "查看 {0}；ssh-keygen 的输出：{1}",
    "see: deepseekctl verify INSTANCE": "查看：deepseekctl verify 实例名",
    "sign it where it is made (--sign KEY); {0} says who may": (
        "请在制作时签名（--sign 密钥）；许可的签名者见 {0}"
    ),
    "wait until it has been copied": "请等待复制完成",
    "wait until it has ended": "请等待其结束",
}
