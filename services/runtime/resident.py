"""Versions of one component that are in memory side by side, and how one of them is dropped safely."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from anyplex.v1 import component_pb2
from graph.errors import FailedPrecondition, NotFound
from services.artifacts import ArtifactStore
from services.artifacts.store import Artifact

if TYPE_CHECKING:
    import torch
    from torch import nn

Model = TypeVar("Model")


def config_hash(config: Mapping[str, Any]) -> str:
    """Return the hash of an artifact's config."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:20]


def architecture_hash(kind: str, type: str, config: Mapping[str, Any]) -> str:
    """Return the hash of an architecture: versions that share it can be served by one component."""
    return config_hash({"kind": kind, "type": type, "config": dict(config)})


def fill_module(module: nn.Module, artifact: Artifact, dtype: str, device: str) -> None:
    """Load an artifact's tensors into a module, which is then ready to run.

    Raises:
        FailedPrecondition: Tensors are missing, extra, of another shape, or not finite.
    """
    import torch

    tensors = artifact.load_tensors()
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise FailedPrecondition(f"artifact {artifact.version}: tensor {name!r} holds NaN or Inf")
    # Buffers such as rotary frequencies lose too much in bfloat16: parameters alone are converted.
    for parameter in module.parameters():
        parameter.data = parameter.data.to(getattr(torch, dtype))
    try:
        missing, extra = module.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
        raise FailedPrecondition(
            f"artifact {artifact.version} does not fit its config: {'; '.join(lines[:3]) or 'wrong tensors'}"
        ) from error
    missing = [name for name in missing if name not in _tied_names(module)]
    if missing or extra:
        raise FailedPrecondition(
            f"artifact {artifact.version} does not fit its config: "
            f"missing tensors {sorted(missing)[:5]}, unknown tensors {sorted(extra)[:5]}"
        )
    module.to(device).eval().requires_grad_(False)


def _tied_names(module: nn.Module) -> set[str]:
    """Names of parameters that are another parameter under a second name, and need not be stored twice."""
    first: dict[int, str] = {}
    tied: set[str] = set()
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if first.setdefault(id(parameter), name) != name:
            tied |= {name, first[id(parameter)]}
    return tied


def finite(tensor: torch.Tensor) -> bool:
    """Whether every element is a number."""
    import torch

    return bool(torch.isfinite(tensor).all())


@dataclass(eq=False)
class _Entry(Generic[Model]):
    model: Model
    config_hash: str
    adapter: bool
    in_use: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)


class Resident(Generic[Model]):
    """The versions in memory.

    Args:
        store: Where artifacts are.
        kind: Kind that an artifact must be of.
        type: Type that it must be of.
        build: Makes the model of an artifact; blocking, runs on a thread.
        verify: Asked about a model before anybody else may use it; raises what is wrong with it.
    """

    def __init__(
        self,
        store: ArtifactStore,
        kind: str,
        type: str,
        build: Callable[[Artifact], Model],
        verify: Callable[[Artifact, Model], Awaitable[None]] | None = None,
    ) -> None:
        self._store = store
        self.kind = kind
        self.type = type
        self._build = build
        self._verify = verify
        self._entries: dict[str, _Entry[Model]] = {}
        self._loading = asyncio.Lock()
        self.architecture = ""

    def __contains__(self, version: str) -> bool:
        return version in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def any(self) -> Model:
        """Return one of the models; all have the same architecture.

        Raises:
            FailedPrecondition: None is loaded.
        """
        for entry in self._entries.values():
            return entry.model
        raise FailedPrecondition(f"no version of this {self.kind} is loaded")

    def all(self) -> list[Model]:
        """Return the models of all versions."""
        return [entry.model for entry in self._entries.values()]

    async def load(self, version: str) -> Model:
        """Load a version beside those there are; again is harmless.

        Raises:
            NotFound: No such artifact.
            FailedPrecondition: It is damaged, of another kind, type or architecture, or its probe is wrong.
        """
        async with self._loading:
            if version in self._entries:
                return self._entries[version].model
            artifact = self._store.get(version)
            if (artifact.kind, artifact.type) != (self.kind, self.type):
                raise FailedPrecondition(
                    f"artifact {version} is a {artifact.kind} {artifact.type!r}, a {self.kind} {self.type!r} expected"
                )
            architecture = architecture_hash(artifact.kind, artifact.type, artifact.config)
            if self._entries and self.kind != "adapter" and architecture != self.architecture:
                raise FailedPrecondition(f"artifact {version} has another architecture than the versions loaded here")
            try:
                model = await asyncio.to_thread(self._build, artifact)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise FailedPrecondition(f"artifact {version}: its config does not make a {self.type!r}") from error
            if self._verify is not None:
                await self._verify(artifact, model)
            if self.kind != "adapter":
                self.architecture = architecture
            self._entries[version] = _Entry(model, config_hash(artifact.config), self.kind == "adapter")
            return model

    @contextmanager
    def use(self, version: str) -> Iterator[Model]:
        """Hold a version for one request; "" means the only one.

        Raises:
            FailedPrecondition: It is not loaded, or none was named and there are several.
        """
        if not version:
            if len(self._entries) != 1:
                raise FailedPrecondition(
                    f"{len(self._entries)} versions are loaded: the request must name one of {sorted(self._entries)}"
                )
            version = next(iter(self._entries))
        entry = self._entries.get(version)
        if entry is None:
            raise FailedPrecondition(f"{self.kind} version {version[:64]!r} is not loaded here")
        entry.in_use += 1
        try:
            yield entry.model
        finally:
            entry.in_use -= 1
            if not entry.in_use:
                entry.idle.set()

    async def unload(self, version: str) -> Model:
        """Take a version away from new requests, wait until its last one has left, and return what it was.

        Raises:
            NotFound: It is not loaded.
            FailedPrecondition: It is the last one, without which the component is nothing.
        """
        if len(self._entries) == 1 and version in self._entries and self.kind != "adapter":
            raise FailedPrecondition(f"{self.kind} version {version} is the only one loaded here: load another first")
        entry = self._entries.pop(version, None)
        if entry is None:
            raise NotFound(f"{self.kind} version {version[:64]!r} is not loaded here")
        while entry.in_use:
            entry.idle.clear()
            await entry.idle.wait()
        return entry.model

    def held(self) -> list[component_pb2.HeldVersion]:
        """Return what the contract card says of them."""
        return [
            component_pb2.HeldVersion(version=version, config_hash=entry.config_hash, adapter=entry.adapter)
            for version, entry in self._entries.items()
        ]
