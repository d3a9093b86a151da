# SPDX-License-Identifier: MulanPSL-2.0
"""Builds the root file systems of the lab hosts, and keeps them outside the tree.

In: the machine's own apt sources. Out: <cache>/root-<flavour>-<hash of the recipe>/, to be copied,
never to be booted itself. An interrupted build leaves nothing that looks finished, two builders
wait for each other, and a changed recipe is a new hash.
"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from .cache import build_key, ensure_built, hold_lock
from .cgroups import create_groups, joining, remove_group
from .machine import KEYRING, prepare_machine
from .mirror import apt_options, find_mirror
from .process import DEPENDENT, Completed, run_command

BUILD_LIMIT_S = 1800
COPY_LIMIT_S = 300
COMMON_PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "polkitd", "kmod", "procps", "iproute2"),
    *("podman", "crun", "conmon", "netavark", "aardvark-dns", "catatonit", "nftables", "iptables"),
    *("dnf", "rpm", "createrepo-c", "cpio", "file", "patch"),
    *("python3", "ca-certificates", "curl"),
    # Image registries, archives, signatures (registry.py, test_images.py, test_bundles.py).
    *("docker-registry", "openssl", "zstd", "xz-utils", "openssh-client"),
)
# The image that stands for vLLM's: a small system with Python, and curl for a look around inside.
IMAGE_PACKAGES = ("python3",)
BASE_IMAGE = "localhost/lab-base:1"
IMAGE_CHANGES = ('ENTRYPOINT ["/bin/bash","-c","exec \\"$@\\"","--"]', 'CMD ["/bin/bash"]')
LEGACY_INIT = "/usr/local/lib/deepseek-lab/init"


class Flavour(StrEnum):
    MODERN = "modern"
    LEGACY = "legacy"


@dataclass(frozen=True, slots=True)
class Recipe:
    suite: str
    packages: tuple[str, ...]
    script: str


# Runs on the machine with the new root as $1. Podman's units are off, and so is every unit that no
# preset names, as on openEuler (Debian's default is on): what the agent needs it must ask for.
CUSTOMIZE = r"""
set -eu
root=$1
in_root() { chroot "$root" "$@"; }
rm -rf "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/var/log/apt" "$root/etc/machine-id"
printf '# the lab is offline\n' > "$root/etc/apt/sources.list"
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost\n' > "$root/etc/hosts"
printf '# the lab is offline\n' > "$root/etc/resolv.conf"
for unit in podman.socket podman.service podman-auto-update.timer podman-auto-update.service \
    podman-restart.service podman-clean-transient.service netavark-dhcp-proxy.socket \
    netavark-dhcp-proxy.service netavark-firewalld-reload.service docker-registry.service; do
    in_root systemctl disable "$unit" 2>/dev/null || :
done
in_root systemctl mask console-getty.service getty.target apt-daily.timer apt-daily-upgrade.timer \
    dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    systemd-modules-load.service systemd-pstore.service \
    systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-timesyncd.service
in_root systemctl set-default multi-user.target
printf 'disable *\n' > "$root/usr/lib/systemd/system-preset/99-default-disable.preset"
install -d -m 2755 "$root/var/log/journal"
in_root chgrp systemd-journal /var/log/journal
install -d "$root/etc/rpm" "$root/etc/containers/containers.conf.d" "$root/etc/yum.repos.d"
printf '%%_dbpath /var/lib/rpm\n' > "$root/etc/rpm/macros"
cat > "$root/etc/containers/storage.conf" <<'END'
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
END
in_root rpm --initdb
touch "$root/etc/.updated" "$root/var/.updated"
"""
# systemd-nspawn mounts the v1 controllers read-only. systemd looks once, when it starts, which of
# them it can use, so they must be writable before: a host would boot without any otherwise.
CUSTOMIZE_LEGACY = rf"""
install -d "$root{os.path.dirname(LEGACY_INIT)}"
cat > "$root{LEGACY_INIT}" <<'END'
#!/bin/sh
for tree in /sys/fs/cgroup/*/; do
    mount -o remount,bind,rw "$tree" || :
done
exec /lib/systemd/systemd "$@"
END
chmod 755 "$root{LEGACY_INIT}"
"""
RECIPES = {
    Flavour.MODERN: Recipe("trixie", (*COMMON_PACKAGES, "dbus-broker"), CUSTOMIZE),
    Flavour.LEGACY: Recipe("bookworm", COMMON_PACKAGES, CUSTOMIZE + CUSTOMIZE_LEGACY),
}
IMAGE_RECIPE = Recipe("bookworm", IMAGE_PACKAGES, "set -eu\n")
SKIPPED_PATHS = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


def run_mmdebstrap(recipe: Recipe, target: Path, *options: str) -> None:
    """target ends in .tar for a tarball; else it is a directory."""
    prepare_machine()
    with tempfile.TemporaryDirectory(prefix="deepseek-lab-") as folder:
        script = Path(folder, "customize")
        script.write_text("#!/bin/sh\n" + recipe.script)
        script.chmod(0o755)
        run_command(
            [
                *(*DEPENDENT, "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"),
                f"--include={','.join(recipe.packages)}",
                f"--keyring={KEYRING}",
                *(f"--dpkgopt=path-exclude={pattern}" for pattern in SKIPPED_PATHS),
                *apt_options(),
                f"--customize-hook={script}",
                *options,
                *(recipe.suite, str(target), find_mirror()),
            ],
            timeout_s=BUILD_LIMIT_S,
        )


def ensure_image_tar() -> Path:
    def build(target: Path) -> None:
        run_mmdebstrap(IMAGE_RECIPE, target.with_suffix(".tar"))
        target.with_suffix(".tar").rename(target)

    return ensure_built("image", build_key(IMAGE_RECIPE, SKIPPED_PATHS), build)


def ensure_root(flavour: Flavour) -> Path:
    """The root of this flavour, with BASE_IMAGE in Podman's storage already."""
    recipe = RECIPES[flavour]
    key = build_key(recipe, IMAGE_RECIPE, SKIPPED_PATHS, BASE_IMAGE, IMAGE_CHANGES)

    def build(target: Path) -> None:
        run_mmdebstrap(recipe, target)
        import_base_image(target, ensure_image_tar())

    return ensure_built(f"root-{flavour}", key, build)


def import_base_image(root: Path, tar: Path) -> None:
    changes = [f"--change={change}" for change in IMAGE_CHANGES]
    run_in_root(
        root,
        ["podman", "import", "--quiet", *changes, "/run/image.tar", BASE_IMAGE],
        binds={tar: "/run/image.tar"},
        timeout_s=300,
    )


def copy_root(flavour: Flavour, target: Path) -> None:
    copy_kept(f"root-{flavour}", lambda: ensure_root(flavour), target)


def copy_kept(name: str, ensure: Callable[[], Path], target: Path) -> None:
    """A fresh writable copy. The cache is held, so that nobody replaces it half-way."""
    while True:
        root = ensure()
        with hold_lock(name, shared=True):
            if root.exists():
                run_command(
                    ["cp", "-a", "--reflink=auto", str(root), str(target)], timeout_s=COPY_LIMIT_S
                )
                return


def run_in_root(
    root: Path, argv: list[str], *, binds: dict[Path, str] | None = None, timeout_s: float = 600
) -> Completed:
    """Runs one command in a root that is not booted, without a network."""
    prepare_machine()
    mounts = [f"--bind-ro={source}:{target}" for source, target in (binds or {}).items()]
    groups = create_groups(f"deepseek-lab-{build_key(str(root))}")
    nspawn = [
        *(*DEPENDENT, "systemd-nspawn", "--quiet", "--register=no", "--keep-unit"),
        *("--private-network", "--pipe", "--as-pid2", "--capability=all"),
        *("--system-call-filter=@known", "--link-journal=no"),
        *("--resolv-conf=off", "--timezone=off"),
        *("--setenv=LC_ALL=C.UTF-8", f"--directory={root}", *mounts, *argv),
    ]
    try:
        return run_command(joining(groups, nspawn), timeout_s=timeout_s, shown=argv)
    finally:
        for group in groups:
            remove_group(group)
