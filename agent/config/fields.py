# SPDX-License-Identifier: MulanPSL-2.0
"""What a single value of the configuration may be: types with their checks and their words.

The words after "Value error" are shown to the operator, behind file and key; each says what is
allowed. Numbers and flags are strict: `port = true` and `port = "2023"` are mistakes, not 1 and
2023. Only `schema` imports this module (it pulls in pydantic).
"""

import re
import unicodedata
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictFloat, StrictInt

from agent.config import flags
from agent.model import MAX_LOGIC_ID
from agent.references import is_image_name

Flag = StrictBool
Port = Annotated[StrictInt, Field(ge=1, le=65535)]
Count = Annotated[StrictInt, Field(ge=1, le=65536)]
Seconds = Annotated[StrictFloat, Field(ge=0, le=86_400, allow_inf_nan=False)]

SHM_SIZE = re.compile(r"[1-9][0-9]{0,5}[mg]")
PORT = re.compile(r"[1-9][0-9]{3,4}")
FAULT_CODE = re.compile(r"[0-9A-F]{8}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Linux takes no argument of 128 KiB and more, options in front of a value included (execve(2)).
MAX_BYTES = 64 * 1024
# Places in the container that are the agent's, the driver's or the kernel's.
RESERVED_TARGETS = (
    *("/dev", "/proc", "/sys", "/models", "/run/deepseek"),
    *("/usr/local/Ascend/driver", "/usr/local/dcmi", "/usr/local/bin/npu-smi"),
    "/etc/ascend_install.info",
)
# What the agent's own sandbox hides from it (ProtectHome=, PrivateTmp= of its unit).
HIDDEN = ("/root", "/home", "/run/user", "/tmp", "/var/tmp")  # noqa: S108
IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
ENDPOINT = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?(/[A-Za-z0-9._~-]+)*")
NUMBERS = re.compile(r"[0-9]+(\.[0-9]+){3}")
REGISTRY = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?")
MIRROR = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*")
CREDENTIAL = re.compile(r"credential:[A-Za-z0-9][A-Za-z0-9._-]*")


def _line(value: str) -> str:
    """One line: nothing that could start a new line in a unit file, or move a terminal's cursor.

    Cc is C0, DEL and C1; Zl and Zp are Unicode's own line ends.
    """
    if any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in value):
        raise ValueError("control characters and line breaks are not allowed")
    if any(map(_is_noncharacter, value)):
        raise ValueError("U+FDD0 to U+FDEF, U+FFFE, U+FFFF and their like are no characters")
    if len(value.encode()) > MAX_BYTES:
        raise ValueError(f"it is longer than {MAX_BYTES} bytes")
    return value


def _is_noncharacter(char: str) -> bool:
    """systemd ignores a whole line of a unit file that has one (unichar_is_valid, src/basic/utf8.c;
    seen with 252 and 257)."""
    return 0xFDD0 <= ord(char) <= 0xFDEF or ord(char) & 0xFFFE == 0xFFFE


def _path(value: str) -> str:
    """A path that Podman's SOURCE:TARGET can carry and that means the same to everybody."""
    if ":" in value:
        raise ValueError('":" is not allowed: Podman cuts a mount there')
    if value.strip("/") == "" or "//" in value or {".", ".."} & set(value.split("/")):
        raise ValueError('the path must name a file or folder, without ".", ".." and "//"')
    return value


def _seen_by_agent(value: str) -> str:
    for folder in HIDDEN:
        if PurePosixPath(value).is_relative_to(folder):
            raise ValueError(f"the agent cannot look into {folder}; use another folder")
    return value


def _image(value: str) -> str:
    if IMAGE.fullmatch(value) is None:
        raise ValueError("an image is named as registry.example/name:tag, or by its id")
    return value


def _own_image(value: str) -> str:
    """For one instance alone. [images] names some that a host may never need, and a fault there
    would hold all instances: what is wrong with those is said when they are fetched."""
    if not is_image_name(_image(value)):
        raise ValueError("an image is named as registry.example/name:tag, or by its id")
    return value


def _absolute(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError("the path must be absolute")
    return value


def _target(value: str) -> str:
    inside = PurePosixPath(value)
    for taken in RESERVED_TARGETS:
        if inside.is_relative_to(taken):
            raise ValueError(f"{taken} in the container is not free for mounts")
    return value


def _argument(value: str) -> str:
    """Podman's quadlet generator loses an empty argument and a lone ";" (seen with 5.4.2)."""
    if value in ("", ";"):
        raise ValueError('an empty argument and ";" are not allowed')
    if flags.means(value, flags.API_KEY, flags.API_KEY_LEAST):
        raise ValueError("it would show the key in ps and in the journal; use api_key_file")
    if own := flags.find_own(value):
        _, key = flags.OWN[own]
        raise ValueError(f"the agent sets {own} itself; the key for it is {key}")
    if flags.means(value, flags.SOCKET, flags.SOCKET):
        raise ValueError("the engine would not listen at its port any more, where it is asked")
    return value


def _variable(name: str) -> str:
    if VARIABLE.fullmatch(name) is None:
        raise ValueError("a variable's name has letters, digits and _ only")
    if name == "VLLM_API_KEY":
        raise ValueError("it would be readable in the unit file; use api_key_file")
    return name


def _address(value: object) -> str:
    """Without a zone (fe80::1%eth0), which may hold any character."""
    try:
        if not isinstance(value, str):
            raise ValueError
        address: IPv4Address | IPv6Address = ip_address(value)
    except ValueError:
        raise ValueError(
            'it must be an IPv4 or IPv6 address, as "127.0.0.1", "0.0.0.0" or "::"'
        ) from None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ValueError("an address with a zone (%) is not allowed")
    return str(address)


def _listen(value: str) -> str:
    """The agent may open no port below 1024 (CAP_NET_BIND_SERVICE)."""
    host, _, port = value.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = _address(bare)
        fits = (":" in address) is (bare != host)
    except ValueError:
        fits = False
    if not fits or PORT.fullmatch(port) is None or not 1024 <= int(port) <= 65535:
        raise ValueError(
            'it must be an address with a port from 1024 on, as "127.0.0.1:9834" or "[::1]:9834"'
        )
    return value


def _shm_size(value: str) -> str:
    if SHM_SIZE.fullmatch(value) is None:
        raise ValueError('it must be a number with m or g, as "512m" or "1g"')
    return value


def _fault_code(value: str) -> str:
    if FAULT_CODE.fullmatch(value) is None:
        raise ValueError("a fault code has eight hex digits in capitals, as 80E01801")
    return value


def _npus(value: object) -> str | tuple[int, ...]:
    if value in ("auto", "all"):
        return str(value)
    found = tuple(value) if isinstance(value, list | tuple) else ()
    numbers = tuple(one for one in found if type(one) is int and 0 <= one <= MAX_LOGIC_ID)
    if not numbers or numbers != found or len(set(numbers)) != len(numbers):
        raise ValueError('it must be "auto", "all" or a list of different logic ids, as [0, 1]')
    return numbers


def _fitting(pattern: re.Pattern[str], words: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if pattern.fullmatch(value) is None or ".." in value:
            raise ValueError(words)
        return value

    return check


def _reachable(endpoints: tuple[str, ...]) -> tuple[str, ...]:
    """One is enough: the others are passed over at a fetch, and a fault here would hold all
    instances, of which none may have to fetch anything."""
    if endpoints and not any(map(_may_be_there, endpoints)):
        raise ValueError(
            "none of them can be reached: a port is 1 to 65535, and what looks like an IP address "
            "has to be one"
        )
    return endpoints


def _may_be_there(endpoint: str) -> bool:
    parts = ENDPOINT.fullmatch(endpoint)
    host, port = (parts[1], parts[2] or ":443") if parts else ("", "")
    digits = port[1:].lstrip("0")
    try:
        if host.startswith("["):
            IPv6Address(host[1:-1])
        elif NUMBERS.fullmatch(host):
            IPv4Address(host)
    except ValueError:
        return False
    return 0 < len(digits) <= len("65535") and int(digits) <= 65535


def _secret(value: str) -> str:
    """A file, or the name of a systemd credential."""
    if value.startswith("credential:"):
        if CREDENTIAL.fullmatch(value) is None:
            raise ValueError('a credential is named as "credential:NAME"')
        return value
    return _absolute(_path(value))


def _filled(value: str) -> str:
    if not value:
        raise ValueError("it must not be empty")
    return value


def _optional(check: Callable[[str], str]) -> Callable[[str], str]:
    """The check, for a value that may also be empty."""
    return lambda value: check(value) if value else value


Line = Annotated[str, AfterValidator(_line)]
Name = Annotated[Line, AfterValidator(_filled)]
Path = Annotated[Name, AfterValidator(_path)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
SeenPath = Annotated[Path, AfterValidator(_seen_by_agent)]
SeenFolder = Annotated[SeenPath, AfterValidator(_absolute)]
OptionalPath = Annotated[
    Line,
    AfterValidator(_optional(_path)),
    AfterValidator(_optional(_absolute)),
    AfterValidator(_optional(_seen_by_agent)),
]
Image = Annotated[Line, AfterValidator(_image)]
OptionalImage = Annotated[Line, AfterValidator(_optional(_own_image))]
Repo = Annotated[Line, AfterValidator(_fitting(REPO, 'it must be a name as "owner/model"'))]
Revision = Annotated[
    Line, AfterValidator(_fitting(REVISION, "it must be a branch, a tag or a commit"))
]
Endpoint = Annotated[
    Line,
    AfterValidator(
        _fitting(ENDPOINT, 'it must be an address as "https://hub.example", without "/" at its end')
    ),
]
Endpoints = Annotated[tuple[Endpoint, ...], Field(min_length=1), AfterValidator(_reachable)]
RegistryName = Annotated[
    Line, AfterValidator(_fitting(REGISTRY, 'a registry is named as "registry.example:5000"'))
]
Mirror = Annotated[
    Line, AfterValidator(_fitting(MIRROR, 'a mirror is named as "registry.example:5000/folder"'))
]
# Read by the process that fetches, which sees more than the agent.
OptionalFile = Annotated[
    Line, AfterValidator(_optional(_path)), AfterValidator(_optional(_absolute))
]
OptionalSecret = Annotated[Line, AfterValidator(_optional(_secret))]
Target = Annotated[AbsolutePath, AfterValidator(_target)]
Argument = Annotated[Line, AfterValidator(_argument)]
Variable = Annotated[str, AfterValidator(_variable)]
Address = Annotated[str, BeforeValidator(_address)]
OptionalListen = Annotated[Line, AfterValidator(_optional(_listen))]
ShmSize = Annotated[str, AfterValidator(_shm_size)]
FaultCode = Annotated[str, AfterValidator(_fault_code)]
Npus = Annotated[str | tuple[int, ...], BeforeValidator(_npus)]
