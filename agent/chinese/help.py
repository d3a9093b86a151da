# SPDX-License-Identifier: MulanPSL-2.0
"""Help of the commands, and argparse's own words (Python 3.11 and newer)."""

HELP = {
    "Shows and steers the DeepSeek models of this host.": "查看并管理本机的 DeepSeek 模型。",
    "what runs, on which NPUs, how healthy": "正在运行什么、使用哪些 NPU、是否健康",
    "as JSON, with its schema number": "以 JSON 输出，含 schema 编号",
    "again every second; q ends it": "每秒刷新；按 q 退出",
    "live: what models and NPUs do now; q ends it": "实时查看模型与 NPU 的工作情况；按 q 退出",
    "the NPUs: health, readings, who uses them, faults": "NPU 的健康、读数、使用者与故障",
    "ask the model; the answer comes as it is made": "向模型提问，边生成边显示",
    "without it, lines are read from standard input": "不给出时，从标准输入逐行读取",
    "the unit file as it would be written, or why there can be none": (
        "将会写出的单元文件，或无法写出的原因"
    ),
    "the unit file as it would be written; nothing is changed, no agent is needed": (
        "将会写出的单元文件；不做任何修改，不需要 agent 在运行"
    ),
    "of another host; - for standard input": "另一台主机的事实文件；- 表示标准输入",
    "as if Podman were of that version": "假定 Podman 为该版本",
    "as if the host had booted so": "假定主机以该 cgroup 版本启动",
    "instead of agent.toml's": "代替 agent.toml 中的设置",
    "instead of %(default)s": "代替 %(default)s",
    "what a plan is made of: host, Podman, models, NPUs": "规划所依据的事实：主机、Podman、模型、NPU",
    "as `render --facts` reads it": "格式可供 `render --facts` 读取",
    "what keeps a model from serving here, and what to do about it": (
        "体检：是什么妨碍模型在本机提供服务，以及如何处理"
    ),
    "what keeps a model from serving on this host, and what to do about it": (
        "体检：是什么妨碍模型在本机提供服务，以及如何处理"
    ),
    "models to look at; without one, those that are enabled or run": (
        "要检查的模型；不给出时检查已启用或正在运行的模型"
    ),
    "image and model onto a disk, for a host without internet": (
        "把镜像与模型写到磁盘，供没有互联网的主机使用"
    ),
    "image and model of an instance into a folder, to be carried": (
        "把一个实例的镜像与模型写入文件夹，以便携带"
    ),
    "line of NPUs; default: the profile's first": "NPU 产品系列；默认为模型配置文件中的第一个",
    "of the servers that it is for; default: this machine's": "目标服务器的架构；默认为本机架构",
    "an SSH key": "SSH 密钥",
    "of a file, 2G as it stands, 4G at most": "单个文件的大小，默认 2G，最大 4G",
    "read it back when it is written": "写完后读回校验",
    "image and model out of such a folder, into place": "从这样的文件夹导入镜像与模型",
    "read all of such a folder; nothing is written": "完整读取这样的文件夹；不写入任何内容",
    "one file with what a developer needs from this host": "收集开发者排查本机所需的信息为一个文件",
    "what a developer needs from a host that nobody can log in to, in one file to send; keys, "
    "passwords and prompts are taken out of it": (
        "为无法登录的主机收集开发者所需的信息，得到一个可发送的文件；不含密钥、口令与提示词"
    ),
    "ends with .tar.gz": "以 .tar.gz 结尾",
    "not longer than this; %(default)s unless said": "大小上限；默认 %(default)s",
    "build an image of one's own on a CANN base": "以 CANN 基础镜像构建自己的镜像",
    "An image of one's own.": "自己的镜像。",
    "vLLM and vllm-ascend on a CANN base image": "在 CANN 基础镜像上安装 vLLM 与 vllm-ascend",
    "the CANN image (default: in the Containerfile)": "CANN 镜像（默认见 Containerfile）",
    "name of what is built (default: %(default)s)": "构建结果的名称（默认 %(default)s）",
    "another Containerfile": "使用另一个 Containerfile",
    "for the Containerfile, which has their names": "传给 Containerfile 的参数，名称见该文件",
    "as systemctl start, for members of the group deepseek too": (
        "同 systemctl start，deepseek 组成员也可执行"
    ),
    "as systemctl stop: until it is started, or a boot": "同 systemctl stop：直到再次启动或主机重启",
    "stop the engine, plan anew, start it": "停止引擎，重新规划并启动",
    "restart it, when that brings more NPUs than it has": "能用上更多 NPU 时才重启",
    "stop it, and do not start it whoever wishes it": "停止并保持停止，任何人都无法启动",
    "it is not on hold any more": "解除保持",
    "until it is done, or has failed": "等到完成或失败才返回",
    "for those who look at it later": "留给以后查看的人的说明",
    "fetch image and model ahead of time": "提前下载镜像与模型",
    "try a new image or model; back by itself": "试运行新的镜像或模型；失败时自动退回",
    "another one than its profile names": "使用模型配置文件之外的镜像",
    "of the model: a branch, tag or commit": "模型的版本：分支、标签或提交",
    "back to the image and model of before": "退回之前的镜像与模型",
    "read a model against its checksums": "按校验和检查模型文件",
    "remove models and images of ours that nobody uses": "清理 agent 下载且无人使用的模型与镜像",
    "only say what would be removed": "只说明将会清理什么",
    "set NPUs aside, or use them again": "隔离 NPU，或重新启用",
    "no model is started on these NPUs any more": "不再在这些 NPU 上启动模型",
    "they are used again, whatever their faults now": "重新启用，不论目前有何故障",
    "what happened, why, and what was done": "发生过什么、原因、已采取的措施",
    "what is about this one alone": "只看与该实例有关的内容",
    "one JSON object for each": "每个事件一个 JSON 对象",
    "and what happens from now on": "并持续显示新发生的事件",
    "so many; 50 unless said": "显示的条数；默认 50",
    "journal of the engine, of its front unit, and what the agent says about it": (
        "引擎与前端单元的日志，以及 agent 对该实例的说明"
    ),
    "and what comes from now on": "并持续显示新的日志",
    "so many; 50 unless said, with --since all": "显示的行数；默认 50，指定 --since 时为全部",
    "as journalctl takes it: --since=-1h, today": "格式同 journalctl：--since=-1h、today",
    "check the configuration, show it as understood, or put it in force": (
        "检查配置、显示程序对配置的理解，或使配置生效"
    ),
    # argparse
    "show this help message and exit": "显示帮助并退出",
    "show program's version number and exit": "显示版本号并退出",
    "usage: ": "用法：",
    "positional arguments": "位置参数",
    "options": "选项",
    "%(prog)s: error: %(message)s\n": "%(prog)s：错误：%(message)s\n",
    "argument %(argument_name)s: %(message)s": "参数 %(argument_name)s：%(message)s",
    "the following arguments are required: %s": "缺少参数：%s",
    "unrecognized arguments: %s": "无法识别的参数：%s",
    "expected one argument": "需要一个值",
    "expected at least one argument": "至少需要一个值",
    "invalid %(type)s value: %(value)r": "无效的 %(type)s 值：%(value)r",
    "invalid choice: %(value)r (choose from %(choices)s)": (
        "无效的选择：%(value)r（可选：%(choices)s）"
    ),
}
