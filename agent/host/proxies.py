# SPDX-License-Identifier: MulanPSL-2.0
"""Whose proxies: supply has those of its unit; Podman's service, which pulls images, its own.

In: environments, /proc, containers.conf. Out: variables and booleans. A proxy may have a password
in it: no value of these goes into a text.

Podman is Go, which knows HTTP_PROXY, HTTPS_PROXY and NO_PROXY and no ALL_PROXY (net/http,
ProxyFromEnvironment); what its environment lacks it takes from `env` below [engine]
(containers.conf(5)).
"""

import re
import tomllib
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from agent.host.reading import read_regular

PODMAN_UNIT = "podman.service"
KNOWN_TO_PODMAN = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
ALL = (*KNOWN_TO_PODMAN, "ALL_PROXY")
HINT = (
    "Podman pulls images without the proxy that supply has: systemctl edit podman.service "
    "([Service], Environment=HTTPS_PROXY=...), then: systemctl try-restart podman.service"
)
CONF_FILES = ("usr/share/containers/containers.conf", "etc/containers/containers.conf")
CONF_FOLDER = "etc/containers/containers.conf.d"
CONF_LIMIT_BYTES = 1024 * 1024
# Neither a user's own nor that of a container, which end in the same.
_IN_PODMAN_UNIT = re.compile(r":/system\.slice/podman\.service(/|$)", re.MULTILINE)


def only_proxies(environment: Mapping[str, str], names: tuple[str, ...] = ALL) -> dict[str, str]:
    """Those that say something."""
    return {name: value for name, value in environment.items() if value and name.upper() in names}


def proxy_for(scheme: str, host: str, environment: Mapping[str, str]) -> str:
    """As httpx and urllib choose it; empty: none. `host` may have a port."""
    small = _in_small_letters(environment)
    named = {name.removesuffix("_proxy"): value for name, value in small.items()}
    if urllib.request.proxy_bypass(host, named):
        return ""
    return named.get(scheme) or named.get("all") or ""


def spell_both(environment: Mapping[str, str]) -> dict[str, str]:
    """All that there are, in capitals and in small letters, so that nothing is left of others."""
    small = _in_small_letters(environment)
    return {one: small.get(name.lower(), "") for name in ALL for one in (name, name.lower())}


def _in_small_letters(environment: Mapping[str, str]) -> dict[str, str]:
    """Where both are there, the small one counts (urllib); it is the later one in the order."""
    return {name.lower(): value for name, value in sorted(only_proxies(environment).items())}


def lacks_proxy(host: str, ours: Mapping[str, str], podman: Mapping[str, str]) -> bool:
    """Whether we ask a registry by a proxy, and Podman would without."""
    has_one = any(name.upper() == "HTTPS_PROXY" for name in only_proxies(podman))
    return not has_one and bool(proxy_for("https", host, ours))


def read_podman_proxies(root: Path = Path("/")) -> dict[str, str] | None:
    """Of Podman's service as it runs; None when it does not, or may not be looked at."""
    for folder in (root / "proc").iterdir():
        with suppress(OSError):
            if folder.name.isdecimal() and _is_podman_service(folder):
                pairs = (one.partition("=") for one in _words(folder / "environ"))
                environment = {name: value for name, _, value in pairs}
                return {**read_engine_proxies(root), **only_proxies(environment, KNOWN_TO_PODMAN)}
    return None


def _is_podman_service(folder: Path) -> bool:
    """Others have been started by it, and are in its group as well."""
    group = (folder / "cgroup").read_text(encoding="utf-8", errors="replace")
    return bool(_IN_PODMAN_UNIT.search(group)) and "service" in _words(folder / "cmdline")


def _words(path: Path) -> list[str]:
    return path.read_bytes().decode(errors="replace").split("\0")


def read_engine_proxies(root: Path = Path("/")) -> dict[str, str]:
    """Of containers.conf, which all of Podman has. What cannot be read says nothing."""
    found: dict[str, str] = {}
    folder = sorted((root / CONF_FOLDER).glob("*.conf"))
    for path in (*(root / one for one in CONF_FILES), *folder):
        with suppress(OSError, ValueError, RecursionError):
            engine = tomllib.loads(read_regular(path, CONF_LIMIT_BYTES).decode()).get("engine")
            words = engine.get("env") if isinstance(engine, dict) else None
            pairs = (str(one).partition("=") for one in (words if isinstance(words, list) else ()))
            found |= {name: value for name, _, value in pairs}
    return only_proxies(found, KNOWN_TO_PODMAN)
