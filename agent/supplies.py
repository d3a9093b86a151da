# SPDX-License-Identifier: MulanPSL-2.0
"""What is brought for an instance, and the words about it between the agent and `supply/`.

The agent writes an `Order`; the process that fetches writes a `Progress` while it works and a
`Report` at its end. Each is a JSON file below /run/deepseek-agent/supply, replaced as a whole.
Frozen values, as in `model`. Standard library only.
"""

from dataclasses import dataclass
from enum import StrEnum

from agent.errors import Failure

MODELS_DIR = "/var/lib/deepseek/models"
SCHEMA = 1  # of these files, of a model's manifest and of a bundle's


class Hub(StrEnum):
    """Who offers models, by the shape of the answers; a mirror has the shape of its original."""

    MODELSCOPE = "modelscope"
    HUGGINGFACE = "huggingface"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A repository at one address."""

    hub: Hub
    endpoint: str  # "https://modelscope.cn", without a slash at its end
    repo: str  # "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"
    revision: str  # branch, tag or commit
    token_file: str = ""  # absolute path, or "credential:NAME"; empty: none is sent
    ca_file: str = ""  # PEM; empty: what the system trusts
    tls_verify: bool = True


@dataclass(frozen=True, slots=True)
class ModelOrder:
    """Files of a model, to be seen at `directory` when all of them are there."""

    directory: str  # absolute
    sources: tuple[ModelSource, ...]  # in the order in which they are tried; may be empty
    recheck: bool = False  # it is there, and an engine says that it is damaged
    # Name of the folder below .store that is meant by that, whatever the link leads to; empty, or
    # gone by now: the one in use.
    revision: str = ""


@dataclass(frozen=True, slots=True)
class ImageSource:
    """An image as one registry calls it."""

    reference: str  # "mirror.example:5000/ascend/vllm-ascend:v0.18.0-openeuler"
    tls_verify: bool = True
    ca_file: str = ""  # PEM; empty: what the system trusts
    auth_file: str = ""  # of `podman login`, or "credential:NAME"; empty: what Podman finds itself


@dataclass(frozen=True, slots=True)
class ImageOrder:
    """An image, to be found in Podman's storage by `reference`."""

    reference: str
    sources: tuple[ImageSource, ...]  # in the order in which they are tried; may be empty


class Purpose(StrEnum):
    """What an order is for."""

    BRING = "bring"  # what is missing, for the next start
    REFRESH = "refresh"  # what there is by now, beside what is in use
    SWITCH = "switch"  # nothing is fetched: the next start finds another one of what is there


class Role(StrEnum):
    """What an image is kept for; also the tag of the name by which it is kept."""

    CURRENT = "current"
    PREVIOUS = "previous"
    TRIAL = "trial"


@dataclass(frozen=True, slots=True)
class KeptImage:
    """An image that `podman image prune` shall leave; without an id nothing has that role."""

    role: Role
    image_id: str


def kept_name(instance: str, role: Role) -> str:
    """The name by which an image is kept."""
    return f"localhost/deepseek-agent/{instance}:{role}"


@dataclass(frozen=True, slots=True)
class Order:
    """Bring what is not None. `import_folder` is looked into first; without sources it is all.

    To switch: the link at the model's directory leads to `revision`, images are kept by `kept`.
    """

    instance: str
    image: ImageOrder | None
    model: ModelOrder | None
    import_folder: str = "/var/lib/deepseek/import"
    keep_free_mib: int = 0  # of each file system that is written to
    parallel: int = 4  # connections
    schema: int = SCHEMA
    purpose: Purpose = Purpose.BRING
    revision: str = ""  # name of its folder below .store
    kept: tuple[KeptImage, ...] = ()
    models_dir: str = MODELS_DIR  # where an image's archive is put together, if there is no model


def letter_stem(instance: str, *, switches: bool) -> str:
    """How the files of an order are called: switching does not wait for what is being fetched. "@"
    is in no name of an instance."""
    return f"{instance}@switch" if switches else instance


class Item(StrEnum):
    """What is being brought."""

    MODEL = "model"
    IMAGE = "image"


class Stage(StrEnum):
    """What is being done about it, in this order."""

    ASKING = "asking"  # a source, what there is
    FETCHING = "fetching"
    CHECKING = "checking"  # content against checksums
    PLACING = "placing"
    WRITING = "writing"  # into a bundle


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is. Bytes of all files of the item, those that were there already among them."""

    item: Item
    stage: Stage
    source: str = ""  # host of the address, name of the registry, or path of a file
    done_bytes: int = 0
    total_bytes: int = 0  # 0: unknown
    bytes_per_s: float = 0.0  # of the last seconds
    trouble: str = ""  # why it does not go on as it should; it is being tried again
    at: float = 0.0  # seconds since the epoch

    @property
    def seconds_left(self) -> float | None:
        """None while nobody can tell."""
        left = self.total_bytes - self.done_bytes
        return left / self.bytes_per_s if self.total_bytes and self.bytes_per_s > 0 else None


@dataclass(frozen=True, slots=True)
class Report:
    """How an order ended. What was brought is told even when something else failed."""

    failure: Failure | None
    image_id: str = ""  # 64 hex digits
    image_digest: str = ""  # of its manifest: "sha256:..."; empty when it came in an archive
    model_revision: str = ""  # the commit, where the hub tells one
    at: float = 0.0  # seconds since the epoch
    schema: int = SCHEMA
    model_folder: str = ""  # name of the revision's folder below .store
    model_source: str = ""  # bundle or folder that it came from; empty: from elsewhere, or nowhere


@dataclass(frozen=True, slots=True)
class Supply:
    """An image and a revision of a model that belong together: what an engine was started with."""

    image_reference: str  # as the profile names it
    image_id: str  # 64 hex digits
    image_digest: str  # of its manifest; empty: unknown
    model_directory: str  # as the profile says it
    model_revision: str  # name of its folder below .store; empty: the directory is an operator's
    at: float  # seconds since the epoch, when it answered first

    def is_same(self, other: "Supply") -> bool:
        """Whether an engine would run on the same, whenever that was and whatever else is known."""
        return self._runs_on == other._runs_on

    def is_named_alike(self, other: "Supply") -> bool:
        """Whether both are what one and the same profile means."""
        names = (other.image_reference, other.model_directory)
        return (self.image_reference, self.model_directory) == names

    @property
    def _runs_on(self) -> tuple[str, str, str, str]:
        return self.image_reference, self.image_id, self.model_directory, self.model_revision


STORE = ".store"


def revision_folder(directory: str, revision: str) -> str:
    """Where a revision of the model at `directory` lies, whatever the link there leads to."""
    parent, name = directory.rstrip("/").rsplit("/", maxsplit=1)
    return f"{parent}/{STORE}/{name}/{revision}"


# --- a model's manifest --------------------------------------------------------------------------

# Beside the files that it is about.
MANIFEST_NAME = "deepseek-manifest.json"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file below the model's folder."""

    path: str  # relative, with "/"
    size: int
    sha256: str  # 64 hex digits; of what was on the disk when it had been checked


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a whole model consists of."""

    hub: str  # a `Hub`; empty: copied from a folder
    repo: str
    revision: str  # the commit, where the hub tells one
    files: tuple[ModelFile, ...]  # sorted by path
    schema: int = SCHEMA

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)
