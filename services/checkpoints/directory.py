"""A checkpoint directory in Hugging Face format: its JSON files and its tensors. Nothing is ever unpickled."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graph.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from torch import Tensor

PIPELINE_FILE = "model_index.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
HUB_PATTERNS = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9]\w{0,63}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class CheckpointDirectory:
    """A checkpoint on disk.

    Attributes:
        path: Its directory.
        source: What the user called it; stands in messages and provenance.
        stem: Name of its weight files without their ending.
    """

    path: Path
    source: str
    stem: str = "model"

    def inside(self, name: str, stem: str) -> CheckpointDirectory:
        """Return a directory in this one: a part of a pipeline.

        Raises:
            InvalidRequest: There is none, or the name leads elsewhere.
        """
        path = self.path / name
        if not _PLAIN_NAME.fullmatch(name) or not path.is_dir():
            raise InvalidRequest(f"checkpoint {self.source}: no directory {name[:64]!r}")
        return CheckpointDirectory(path, f"{self.source}/{name}", stem)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Read a JSON file; None when there is none.

        Raises:
            InvalidRequest: It is no JSON object.
        """
        file = self.path / name
        if not file.is_file():
            return None
        try:
            content = json.loads(file.read_bytes())
        except ValueError as error:
            raise InvalidRequest(f"checkpoint {self.source}: {name} is no JSON") from error
        if not isinstance(content, dict):
            raise InvalidRequest(f"checkpoint {self.source}: {name}: an object expected")
        return content

    @property
    def config(self) -> dict[str, Any]:
        """The model's config.

        Raises:
            InvalidRequest: There is none.
        """
        config = self.read_json("config.json")
        if config is None:
            raise InvalidRequest(f"checkpoint {self.source}: no config.json, a Hugging Face directory expected")
        return config

    def files(self, names: tuple[str, ...]) -> dict[str, bytes]:
        """Read those of the named files that are there."""
        return {name: (self.path / name).read_bytes() for name in names if (self.path / name).is_file()}

    def load_tensors(self, rename: Callable[[str], str | None]) -> dict[str, Tensor]:
        """Read the tensors that ``rename`` gives a new name; those it gives None stay on disk.

        Raises:
            InvalidRequest: No safetensors, or a file that cannot be read.
        """
        from safetensors import SafetensorError, safe_open

        tensors: dict[str, Tensor] = {}
        for file in self._weight_files():
            try:
                with safe_open(file, "pt") as shard:
                    for name in shard.keys():  # noqa: SIM118 - no mapping, only keys()
                        new_name = rename(name)
                        if new_name is not None:
                            tensors[new_name] = shard.get_tensor(name)
            except (SafetensorError, OSError, ValueError) as error:
                raise InvalidRequest(f"checkpoint {self.source}: {file.name} cannot be read") from error
        return tensors

    def _weight_files(self) -> list[Path]:
        index = self.read_json(f"{self.stem}.safetensors.index.json")
        if index is not None:
            names = sorted(set(index.get("weight_map", {}).values()))
            files = [self.path / name for name in names]
            for file in files:
                if file.parent != self.path or not file.is_file():
                    raise InvalidRequest(f"checkpoint {self.source}: shard {file.name!r} is missing")
            return files
        whole = self.path / f"{self.stem}.safetensors"
        if whole.is_file():
            return [whole]
        pickles = sorted(file.name for file in self.path.iterdir() if file.suffix in PICKLE_SUFFIXES)
        if pickles:
            raise InvalidRequest(
                f"checkpoint {self.source}: {pickles[0]} is a pickle, which can run code and is never loaded; "
                f"convert it to {whole.name} first"
            )
        raise InvalidRequest(f"checkpoint {self.source}: no {whole.name}")


def open_checkpoint(source: str | Path) -> CheckpointDirectory:
    """Open a directory, or fetch a hub id.

    Raises:
        NotFound: No such directory, and no hub id or not to be fetched.
        InvalidRequest: The directory holds no checkpoint.
    """
    path = Path(source)
    if path.is_dir():
        directory = CheckpointDirectory(path, path.name)
        if directory.read_json(PIPELINE_FILE) is None:
            _ = directory.config
        return directory
    if path.exists():
        raise InvalidRequest(f"{str(source)!r} is a file, a checkpoint directory expected")
    if not _HUB_ID.fullmatch(str(source)):
        raise NotFound(f"no directory {str(source)!r}, and no hub id (OWNER/NAME)")
    return CheckpointDirectory(_fetched(str(source)), str(source))


def _fetched(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(HUB_PATTERNS)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise NotFound(
            f"no directory {hub_id!r}, and the hub cannot be reached or has no such checkpoint: "
            "download it and give its directory"
        ) from error


def plain_config(config: Any) -> dict[str, Any]:  # noqa: ANN401 - any config class of transformers
    """Return a transformers config as plain data, defaults spelt out, without what says nothing of shapes."""
    skipped = {"transformers_version", "architectures", "dtype", "torch_dtype", "_name_or_path", "use_cache"}
    content: Mapping[str, Any] = config.to_dict()
    return {key: value for key, value in content.items() if key not in skipped}
