# SPDX-License-Identifier: MulanPSL-2.0
"""What failures of bringing image and model say, by their template: downloads, disks, bundles."""

SUPPLY = {
    # what was being done
    "bring {0}": "获取 {0}",
    "copy {0}": "复制 {0}",
    "fetch the model": "下载模型",
    "mend {0}": "修复 {0}",
    "import the bundle": "导入离线包",
    "write the bundle": "写出离线包",
    "prune {0}": "清理 {0}",
    # files and room for them
    "cannot copy {0}: {1}": "无法复制 {0}：{1}",
    "cannot look at {0}: {1}": "无法查看 {0}：{1}",
    "cannot look how much room there is on {0}: {1}": "无法查看 {0} 的剩余空间：{1}",
    "cannot read below {0}: {1}": "无法读取 {0} 中的文件：{1}",
    "cannot write below {0}: {1}": "无法写入 {0} 中的文件：{1}",
    " and {0} GiB for the image": "，镜像另需 {0} GiB",
    " and {0} GiB are to stay free": "，并须保留 {0} GiB",
    " and {0} GiB for the image and {1} GiB are to stay free": (
        "，镜像另需 {0} GiB，并须保留 {1} GiB"
    ),
    " and {0} GiB for what else is being brought": "，同时获取的其他内容另需 {0} GiB",
    " and {0} GiB for what else is being brought and {1} GiB are to stay free": (
        "，同时获取的其他内容另需 {0} GiB，并须保留 {1} GiB"
    ),
    "use a larger file system (for models: models_dir)": "使用更大的文件系统（模型：models_dir）",
    # sources
    "cannot ask for {0}: no answer came": "无法查询 {0}：没有应答",
    "cannot ask for {0}: {1}": "无法查询 {0}：{1}",
    "cannot ask sources: {0}": "无法查询下载源：{0}",
    "cannot bring what {0} lacks: internal error: {1}": (
        "无法获取 {0} 缺少的内容：程序内部错误：{1}"
    ),
    "cannot bring what {0} lacks: {1} ended without a report": (
        "无法获取 {0} 缺少的内容：{1} 没有报告就结束了"
    ),
    "cannot bring the same model again from {0} on {1}: {2} is another one there": (
        "{1} 上的 {0} 已不是原来的模型，无法重新获取：{2} 不同"
    ),
    "cannot bring {0} for {1}: no registry has it": "无法获取 {1} 架构的 {0}：没有镜像仓库提供",
    "cannot bring {0}: it is no name of an image": "无法获取 {0}：它不是镜像名称",
    "cannot bring {0}: {1}": "无法获取 {0}：{1}",
    "cannot fetch from {0}: HTTP {1}": "无法从 {0} 下载：HTTP {1}",
    "cannot fetch from {0}: it leads from https to {1}": "无法从 {0} 下载：它从 https 转到了 {1}",
    "cannot fetch from {0}: it leads on more than {1} times": (
        "无法从 {0} 下载：重定向超过 {1} 次"
    ),
    "cannot fetch from {0}: {1}": "无法从 {0} 下载：{1}",
    "cannot fetch {0} from any source: {1}": "所有来源都无法下载 {0}：{1}",
    "cannot fetch {0} from {1}: {2}": "无法从 {1} 下载 {0}：{2}",
    "cannot fetch {0}: no source is configured": "无法下载 {0}：没有配置下载源",
    "cannot find a model on {0}: there is no {1}": "{0} 上找不到模型：没有 {1}",
    "cannot find {0} for {1}: {2}": "找不到 {1} 架构的 {0}：{2}",
    "cannot find {0} on {1}: {2}": "{1} 上找不到 {0}：{2}",
    "cannot find {0}: Podman does not have it": "找不到 {0}：Podman 中没有它",
    "cannot use {0}: Podman could not read what it had of it, and has removed it": (
        "无法使用 {0}：Podman 读不出已有的内容，已将其删除"
    ),
    "cannot get on with {0}: {1}": "{0} 无法继续：{1}",
    "cannot go on fetching: {0}": "无法继续下载：{0}",
    "cannot look up {0} at {1}: that is no name of a repository": (
        "无法在 {1} 查找 {0}：它不是仓库名称"
    ),
    "cannot mend {0}, as there is no source to bring it from: {1}": (
        "无法修复 {0}，没有可用的下载源：{1}"
    ),
    "cannot pull from {0}: {1}": "无法从 {0} 拉取镜像：{1}",
    "cannot reach {0}: it is no address": "无法连接 {0}：它不是有效地址",
    "cannot reach {0}: the proxy cannot be used: {1}": "无法连接 {0}：代理无法使用：{1}",
    "cannot reach {0}: the proxy refuses: {1}": "无法连接 {0}：代理拒绝：{1}",
    "cannot reach {0}: the proxy wants a password": "无法连接 {0}：代理要求密码",
    "cannot reach {0}: {1}: {2}": "无法连接 {0}：{1}：{2}",
    "cannot read the answer of {0}: it does not end": "无法读取 {0} 的应答：没有结束",
    "cannot read the answer of {0}: it is compressed unasked": "无法读取 {0} 的应答：未经请求的压缩",
    "cannot read the answer of {0}: it is no JSON": "无法读取 {0} 的应答：不是 JSON",
    "cannot read the answer of {0}: its next page is no URL": (
        "无法读取 {0} 的应答：下一页的地址不是 URL"
    ),
    "cannot trust {0}: it is not signed": "不信任 {0}：它没有签名",
    "cannot trust {0}: {1}": "不信任 {0}：{1}",
    "cannot trust {0}: {1}{2}": "不信任 {0}：{1}{2}",
    "cannot use the list of files of {0}: {1}": "无法使用 {0} 的文件列表：{1}",
    "cannot use {0} of {1}: {2}": "无法使用 {1} 的 {0}：{2}",
    "cannot use {0} yet: it is still being copied": "暂时无法使用 {0}：仍在复制",
    "cannot use {0} yet: {1}": "暂时无法使用 {0}：{1}",
    "cannot use {0}: it has changed while it was copied": "无法使用 {0}：复制期间有变化",
    "cannot use {0}: {1} leads out of {2}, to {3}": "无法使用 {0}：{1} 指向 {2} 之外的 {3}",
    "cannot use {0}: {1} is no regular file": "无法使用 {0}：{1} 不是普通文件",
    "cannot use {0}: it is no name of an image": "无法使用 {0}：它不是镜像名称",
    "cannot use {0}: {1} is not what its manifest says": "无法使用 {0}：{1} 与清单不符",
    "cannot {0} from {1}: no answer came": "操作失败（{0}，来源 {1}）：没有应答",
    "cannot {0} images: no answer came": "镜像操作失败（{0}）：没有应答",
    "cannot {0} images: {1}": "镜像操作失败（{0}）：{1}",
    # what is there
    "cannot load {0}: there is no {1}": "无法载入 {0}：没有 {1}",
    "cannot load {0}: {1}": "无法载入 {0}：{1}",
    "cannot store the image: {0} has {1} MiB free, it needs {2} MiB{3}": (
        "无法保存镜像：{0} 剩余 {1} MiB，需要 {2} MiB{3}"
    ),
    "cannot understand {0}: it names no image": "无法理解 {0}：其中没有镜像名称",
    "cannot place {0}: there are {1} of it in {2}": "无法放置 {0}：{2} 中已有 {1} 个",
    "cannot prune: internal error: {0}": "无法清理：程序内部错误：{0}",
    "cannot prune: the order is too old, other things may be needed by now": (
        "无法清理：任务已过期，所需内容可能已改变"
    ),
    "cannot prune: {0}": "无法清理：{0}",
    "cannot put a model at {0}: it has to be absolute, and not hidden": (
        "无法把模型放到 {0}：应为绝对路径，且不是隐藏目录"
    ),
    "cannot put a model at {0}: something else lies there": "无法把模型放到 {0}：该处已有其他内容",
    "cannot remove the revision {0}: no such name": "无法删除版本 {0}：没有这个名称",
    "cannot remove {0}: it is in use": "无法删除 {0}：正在使用",
    "cannot remove {0}: it is in use: {1}": "无法删除 {0}：正在使用：{1}",
    "cannot see {0}: {1}; nothing there is pruned": "无法查看 {0}：{1}；该处不做清理",
    "cannot switch {0}: {1}": "无法切换 {0}：{1}",
    "cannot use revision {0} of {1}: it is not there": "无法使用 {1} 的版本 {0}：它不存在",
    "cannot use revision {0} of {1}: it is not there, or not whole": (
        "无法使用 {1} 的版本 {0}：它不存在或不完整"
    ),
    "cannot verify {0}: it has no manifest, as it was not brought by the agent": (
        "无法检查 {0}：没有清单，它不是由 agent 获取的"
    ),
    "cannot verify {0}: it is not there": "无法检查 {0}：它不存在",
    # updates
    "cannot update {0}: another update is under way ({1})": "无法更新 {0}：另一个更新正在进行（{1}）",
    "cannot update {0}: {1}": "无法更新 {0}：{1}",
    "cannot go back with {0}: it has run on nothing else before": (
        "{0} 无法退回：它之前没有运行过其他版本"
    ),
    "cannot go back with {0}: it ran on {1} before, and its profile says {2}": (
        "{0} 无法退回：它之前使用 {1}，而模型配置文件指定 {2}"
    ),
    "cannot keep it on trial: it came to this {0} times: {1}": (
        "无法继续试用：{0} 次都是同样的结果：{1}"
    ),
    "cannot keep it on trial: the host went down in each of {0} boots in which it was tried": (
        "无法继续试用：在试用它的 {0} 次开机中，主机每次都停机了"
    ),
    # bundles
    "cannot find a bundle in {0}: {1}": "{0} 中没有离线包：{1}",
    "cannot make a bundle in {0}: there is {1} already": "无法在 {0} 制作离线包：已有 {1}",
    "cannot make a bundle of {0}: {1}": "无法为 {0} 制作离线包：{1}",
    "cannot make a bundle: neither image nor model is asked for": (
        "无法制作离线包：没有指定镜像或模型"
    ),
    "cannot make parts of {0}": "无法按 {0} 分割文件",
    "cannot make parts of {0} bytes: FAT32 has files of less than 4 GiB": (
        "无法按 {0} 字节分割文件：FAT32 的文件须小于 4 GiB"
    ),
    "cannot make this bundle: {0}": "无法制作该离线包：{0}",
    "cannot put the model into a bundle: {0}": "无法把模型放入离线包：{0}",
    "cannot put {0} into a bundle: Podman does not have it": (
        "无法把 {0} 放入离线包：Podman 中没有它"
    ),
    "cannot put {0} into a bundle: it became another image meanwhile": (
        "无法把 {0} 放入离线包：该名称在此期间指向了另一个镜像"
    ),
    "cannot put {0} into a bundle: it is for {1}, not for {2}": (
        "无法把 {0} 放入离线包：它适用于 {1}，不适用于 {2}"
    ),
    "cannot put {0} into a bundle: it is not a name of the image": (
        "无法把 {0} 放入离线包：它不是该镜像的名称"
    ),
    "cannot put {0} into a bundle: it is not what its manifest says": (
        "无法把 {0} 放入离线包：它与清单不符"
    ),
    "cannot put {0} into a bundle: there is no {1} in it, so nobody can tell whether the model is "
    "whole": "无法把 {0} 放入离线包：其中没有 {1}，无法判断模型是否完整",
    "cannot save {0}: Podman does not end": "无法导出 {0}：Podman 没有结束",
    "cannot save {0}: Podman has written nothing for {1} s": (
        "无法导出 {0}：Podman 已有 {1} 秒没有写出数据"
    ),
    "cannot sign the bundle with {0}: it cannot be read": "无法用 {0} 给离线包签名：密钥无法读取",
    "cannot sign the bundle with {0}: {1}": "无法用 {0} 给离线包签名：{1}",
    "cannot trust the bundle: it is not signed": "不信任该离线包：它没有签名",
    "cannot trust the bundle: it is signed by none of those who may": (
        "不信任该离线包：签名者不在许可之列"
    ),
    "cannot trust the bundle: its signature is not of this list of files": (
        "不信任该离线包：签名与文件列表不符"
    ),
    "cannot use the bundle in {0}: it is not whole yet: {1} of {2} files": (
        "暂时无法使用 {0} 中的离线包：尚不完整：{2} 个文件中有 {1} 个"
    ),
    "cannot use the bundle's image: it is for {0}, this host is {1}": (
        "无法使用离线包中的镜像：它适用于 {0}，本机是 {1}"
    ),
    "cannot use the bundle: {0}: cannot read it: {1}": "无法使用离线包：无法读取 {0}：{1}",
    "cannot use the bundle: {0}: {1}": "无法使用离线包：{0}：{1}",
    "cannot use the bundle: {0}{1}": "无法使用离线包：{0}{1}",
    "cannot work in {0}: another process does the same there": (
        "无法在 {0} 工作：另一个进程正在做同样的事"
    ),
    "cannot check the signature: {0}": "无法检查签名：{0}",
    "cannot {0} a signature: ssh-keygen does not end in {1} s": (
        "签名操作失败（{0}）：ssh-keygen 在 {1} 秒内没有结束"
    ),
    "cannot {0} a signature: ssh-keygen: {1}": "签名操作失败（{0}）：ssh-keygen：{1}",
}
