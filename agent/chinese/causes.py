# SPDX-License-Identifier: MulanPSL-2.0
"""Why: the second part of failures. What the system says, what is wrong with a key of the
configuration, why an engine ended."""

CAUSES = {
    "{0} (and {1} more)": "{0}（另有 {1} 项）",
    # the system
    "[Errno {0}] {1}": "[错误号 {0}] {1}",
    "Address already in use": "地址或端口已被占用",
    "Connection refused": "连接被拒绝",
    "Connection reset by peer": "连接被对方重置",
    "Connection timed out": "连接超时",
    "Disk quota exceeded": "超出磁盘配额",
    "Input/output error": "读写错误",
    "Is a directory": "它是目录",
    "Name or service not known": "域名无法解析",
    "Network is unreachable": "网络不可达",
    "No address associated with hostname": "域名没有对应的地址",
    "No route to host": "没有到主机的路由",
    "No space left on device": "磁盘空间已满",
    "No such file or directory": "没有这个文件或目录",
    "Not a directory": "它不是目录",
    "Operation not permitted": "不允许此操作",
    "Permission denied": "权限不足",
    "Read-only file system": "文件系统只读",
    "Temporary failure in name resolution": "域名解析暂时失败",
    "nobody takes the connection": "无法建立连接",
    "it stands still": "传输停滞",
    # files of a model
    "it is no regular file": "它不是普通文件",
    "it is larger than {0} bytes": "文件大于 {0} 字节",
    "it is nested too deep": "嵌套层次过深",
    "it is not UTF-8 (byte {0})": "不是 UTF-8（第 {0} 字节）",
    "its content is not what it was": "内容与校验和不符",
    "{0}: missing": "{0}：缺失",
    "{0}: missing; {1}": "{0}：缺失；{1}",
    "{0}: its content is not what it was": "{0}：内容与校验和不符",
    "{0}: its content is not what it was; {1}": "{0}：内容与校验和不符；{1}",
    "{0}: {1} bytes, not {2}": "{0}：大小为 {1} 字节，应为 {2}",
    "{0}: {1} bytes, not {2}; {3}": "{0}：大小为 {1} 字节，应为 {2}；{3}",
    "{0} bytes, not {1}": "大小为 {0} 字节，应为 {1}",
    "{0}: it is empty": "{0}：是空文件",
    "{0}: it begins with zeros": "{0}：开头全是零",
    "{0}: a pointer of git-lfs, without the content": "{0}：只是 git-lfs 的指针，没有内容",
    "{0}: {1} bytes, not even its header": "{0}：只有 {1} 字节，连文件头都不完整",
    "{0}: {1} bytes, without its end": "{0}：只有 {1} 字节，缺少结尾",
    "{0}: its header cannot be read": "{0}：文件头无法读取",
    "{0}: it has not come to its end": "{0}：尚未完成",
    "{0}; and {1} more": "{0}；另有 {1} 项",
    "it names no files": "其中没有文件名",
    # a bundle
    "there is no such folder": "没有这个目录",
    "no {0} in it": "其中没有 {0}",
    "no {0}, it is still being made": "没有 {0}，仍在制作",
    "{0}: it is not there": "{0}：缺失",
    "{0}: it has {1} bytes of {2}": "{0}：{2} 字节中只有 {1} 字节",
    "it has {0} bytes and should have {1}": "大小为 {0} 字节，应为 {1}",
    "it has become shorter while it was read": "读取期间文件变短",
    "its content is not what the checksum says": "内容与校验和不符",
    "its parts are whole, but together they are not what its checksum says": (
        "各部分完整，但合并之后与校验和不符"
    ),
    "Podman has loaded it, and has no image {0}": "Podman 已载入，但没有镜像 {0}",
    # the configuration
    "unknown key{0}": "未知的键{0}",
    '; did you mean "{0}"?': '；是否想写 "{0}"？',
    "; allowed: {0}": "；可用：{0}",
    "the environment's {0}": "环境变量 {0}",
    "it is required": "必须给出",
    "it must be a list, in [ ]": "应为列表，写在 [ ] 中",
    "it must be a table": "应为表",
    "it must be text, in quotes": "应为带引号的文本",
    "it must be a whole number, without quotes": "应为不带引号的整数",
    "it must be a number, without quotes": "应为不带引号的数字",
    "it must be true or false, without quotes": "应为不带引号的 true 或 false",
    "it must be greater than or equal to {0}": "应大于或等于 {0}",
    "it must be greater than {0}": "应大于 {0}",
    "it must be less than or equal to {0}": "应小于或等于 {0}",
    "it must be less than {0}": "应小于 {0}",
    "it must be {0}": "应为 {0}",
    "it must not be empty": "不能为空",
    "it is longer than {0} bytes": "超过 {0} 字节",
    "it begins with a byte order mark; save it as UTF-8 without one": (
        "文件以字节顺序标记（BOM）开头；请保存为不带 BOM 的 UTF-8"
    ),
    "control characters and line breaks are not allowed": "不能含有控制字符与换行",
    "U+FDD0 to U+FDEF, U+FFFE, U+FFFF and their like are no characters": (
        "U+FDD0 至 U+FDEF、U+FFFE、U+FFFF 等不是字符"
    ),
    '":" is not allowed: Podman cuts a mount there': '不能含有 ":"：Podman 以它分隔挂载',
    'the path must name a file or folder, without ".", ".." and "//"': (
        '路径应指向文件或目录，不含 "."、".." 与 "//"'
    ),
    "the path must be absolute": "应为绝对路径",
    "the agent cannot look into {0}; use another folder": "agent 无法查看 {0}；请使用其他目录",
    "an image is named as registry.example/name:tag, or by its id": (
        "镜像写法为 registry.example/name:tag，或镜像 id"
    ),
    "none of them can be reached: a port is 1 to 65535, and what looks like an IP address has to be one": (
        "全部无法连接：端口应为 1 至 65535，形如 IP 的地址应是有效的 IP 地址"
    ),
    "{0} in the container is not free for mounts": "容器内的 {0} 不能用于挂载",
    'an empty argument and ";" are not allowed': '不能有空参数与 ";"',
    "it would show the key in ps and in the journal; use api_key_file": (
        "密钥会出现在 ps 与日志中；请使用 api_key_file"
    ),
    "it would be readable in the unit file; use api_key_file": (
        "密钥可从单元文件中读出；请使用 api_key_file"
    ),
    "the agent sets {0} itself; the key for it is {1}": "{0} 由 agent 设置；对应的键为 {1}",
    "the engine would not listen at its port any more, where it is asked": (
        "引擎将不再监听其端口，而 agent 正是通过该端口探测它"
    ),
    "this opens the engine to the network, and there is no API key: set api_key_file, or say open_without_api_key = true": (
        "引擎将向网络开放，却没有 API 密钥：请设置 api_key_file，或写明 open_without_api_key = true"
    ),
    "tls_certificate and tls_key go together: set both or none": (
        "tls_certificate 与 tls_key 须成对：请同时设置或都不设置"
    ),
    "it is longer than {0} bytes together with mounts and vllm.extra_args": (
        "它与 mounts、vllm.extra_args 合计超过 {0} 字节"
    ),
    "two mounts have the same target": "两个挂载的 target 相同",
    "it must not be above backoff_max_s": "不能大于 backoff_max_s",
    "the names behind --served-model-name lack served_name, for which the agent asks: put it first": (
        "--served-model-name 之后的名称中没有 served_name，而 agent 正是以该名称探测引擎：请将其放在首位"
    ),
    "a variable's name has letters, digits and _ only": "变量名只能含有字母、数字与 _",
    'it must be an IPv4 or IPv6 address, as "127.0.0.1", "0.0.0.0" or "::"': (
        '应为 IPv4 或 IPv6 地址，如 "127.0.0.1"、"0.0.0.0" 或 "::"'
    ),
    "an address with a zone (%) is not allowed": "不能使用带区域（%）的地址",
    'it must be an address with a port from 1024 on, as "127.0.0.1:9834" or "[::1]:9834"': (
        '应为地址与 1024 以上的端口，如 "127.0.0.1:9834" 或 "[::1]:9834"'
    ),
    'it must be a number with m or g, as "512m" or "1g"': '应为带 m 或 g 的数字，如 "512m" 或 "1g"',
    "a fault code has eight hex digits in capitals, as 80E01801": (
        "故障码为八位大写十六进制数字，如 80E01801"
    ),
    'it must be "auto", "all" or a list of different logic ids, as [0, 1]': (
        '应为 "auto"、"all" 或不重复的逻辑编号列表，如 [0, 1]'
    ),
    'a credential is named as "credential:NAME"': '凭据写法为 "credential:NAME"（NAME 为名称）',
    # an engine
    "it says that it is idle": "引擎称其空闲",
    "it says that requests wait": "引擎称有请求在等待",
    "its counters are not understood": "无法理解其计数器",
    "its API server says that the engine is dead ({0} times)": (
        "API 服务报告引擎已停止工作（{0} 次）"
    ),
    "nobody listens in the container any more ({0} times refused)": (
        "容器内已无程序监听端口（{0} 次被拒绝）"
    ),
    "the engine hangs: nothing in it has answered for {0} s": "引擎挂起：{0} 秒没有任何应答",
    "the engine hangs: no token for {0} s, {1} canaries unanswered, {2}, and its API server "
    "answers": ("引擎挂起：{0} 秒没有产出 token，{1} 次探测无应答，{2}，而 API 服务仍有应答"),
    "Podman cannot open its port: something else on this host has it": (
        "Podman 无法打开它的端口：已被本机其他程序占用"
    ),
    "a port that it needs is taken inside its container": "它需要的端口在容器内已被占用",
    "a file of the model is damaged ({0})": "模型文件损坏（{0}）",
    "weights of the model are missing": "缺少模型权重",
    "the weights of the model do not fit its config.json": "模型权重与 config.json 不匹配",
    "config.json or the tokenizer of the model is missing or damaged": (
        "模型的 config.json 或分词器缺失或损坏"
    ),
    "the vLLM of its image does not know this kind of model": "镜像中的 vLLM 不支持这种模型",
    "max_model_len {0} is more than the model was made for": "max_model_len {0} 超出模型的上限",
    "no room is left for its KV cache: the model is too big, or max_model_len too long": (
        "没有空间存放 KV 缓存：模型过大，或 max_model_len 过长"
    ),
    "vLLM does not have the reasoning parser that the profile names": (
        "vLLM 没有模型配置文件指定的 reasoning parser"
    ),
    "vLLM does not take its command line: {0}": "vLLM 不接受命令行参数：{0}",
    "vLLM has no reasoning parser {0}": "vLLM 没有 reasoning parser {0}",
    "vLLM refuses its configuration: {0}": "vLLM 拒绝其配置：{0}",
    "its NPU or vLLM cannot compute in this type of numbers ({0})": (
        "NPU 或 vLLM 不支持这种数据类型（{0}）"
    ),
    "driver, CANN and torch_npu do not fit together ({0})": "驱动、CANN 与 torch_npu 不匹配（{0}）",
    # its NPU
    "{0} (ACL {1})": "{0}（ACL {1}）",
    "memory of its NPU is in use by something else ({0})": "NPU 显存被其他程序占用（{0}）",
    "the memory of its NPU changed while it was being measured": "测量期间 NPU 显存发生变化",
    "the memory of its NPU does not suffice": "NPU 显存不足",
    "its NPU is held by another process or container (-8020)": "NPU 被其他进程或容器占用（-8020）",
    "its NPUs could not connect to each other in time": "NPU 之间未能及时建立连接",
    "its NPU does not answer any more": "NPU 不再应答",
    "its NPU failed": "NPU 发生故障",
    "its NPU was not initialised": "NPU 未初始化",
    "its NPU could not be set up": "NPU 初始化失败",
    "its NPU did not report in time": "NPU 未及时响应",
    "it asks for an NPU that its container does not have": "它请求的 NPU 不在容器中",
    "it may not use its NPU": "没有权限使用 NPU",
    "a stream of its NPU was lost": "NPU 的流（stream）丢失",
    "a model failed on its NPU": "模型在 NPU 上执行失败",
    "copying memory failed on its NPU": "NPU 内存复制失败",
    "a vector core of its NPU failed": "NPU 的向量核故障",
    "a vector core of its NPU took too long": "NPU 的向量核执行超时",
    "an AI CPU of its NPU failed": "NPU 的 AI CPU 故障",
    "an AI CPU of its NPU failed inside": "NPU 的 AI CPU 内部错误",
    "an AI CPU of its NPU took too long": "NPU 的 AI CPU 执行超时",
    "an AI core of its NPU failed": "NPU 的 AI Core 故障",
    "an AI core of its NPU took too long": "NPU 的 AI Core 执行超时",
    "an AI core of its NPU trapped": "NPU 的 AI Core 异常中断（trap）",
    "the connection to its NPU was lost": "与 NPU 的连接丢失",
    "the driver does not tell the kind of its NPU": "驱动未给出 NPU 型号",
    "the driver of its NPU failed": "NPU 驱动故障",
    "the driver offers it no NPU": "驱动没有提供 NPU",
    "the driver refuses it inside the container (-8005)": "驱动在容器内拒绝访问（-8005）",
    "the runtime of its NPU failed": "NPU 运行时故障",
    "the task scheduler of its NPU failed": "NPU 的任务调度器故障",
}
