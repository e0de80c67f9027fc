from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest
import torch

from graph.errors import FailedPrecondition, InvalidRequest, NotFound, Unavailable
from services.artifacts import ArtifactStore
from services.artifacts.cache import Cache
from services.artifacts.remote import RemoteShelf

TENSORS = {"weight": torch.arange(12.0).reshape(3, 4), "half": torch.ones(3).bfloat16()}
FILES = {"tokenizer.json": b'{"a": 1}'}


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"memory://{uuid4().hex}" if request.param == "memory" else f"file://{tmp_path}/remote"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def store(url: str, cache: Cache) -> ArtifactStore:
    return ArtifactStore(url, cache=cache)


def put(store: ArtifactStore, seed: int = 0) -> str:
    tensors = {**TENSORS, "seed": torch.tensor([seed])}
    return store.put(kind="encoder", type="x", config={"a": 1}, tensors=tensors, files=FILES)


def write(url: str, path: str, data: bytes) -> None:
    files, base = fsspec.core.url_to_fs(url)
    files.makedirs(f"{base}/{path}".rpartition("/")[0], exist_ok=True)
    files.pipe_file(f"{base}/{path}", data)


def test_what_was_put_comes_back_elsewhere(url: str, store: ArtifactStore, tmp_path: Path) -> None:
    version = put(store)
    assert version == put(ArtifactStore(tmp_path / "local")), "a version says what, not where"
    elsewhere = ArtifactStore(url, cache=Cache(tmp_path / "another machine"))
    artifact = elsewhere.get(version)
    assert artifact.read_file("tokenizer.json") == FILES["tokenizer.json"]
    loaded = artifact.load_tensors()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in TENSORS.items())
    assert elsewhere.versions() == [version]
    assert put(store) == version


def test_nothing_is_left_behind(url: str, store: ArtifactStore) -> None:
    version = put(store)
    store.annotate(version, {"score": 1})
    files, base = fsspec.core.url_to_fs(url)
    names = {path.partition(version)[2] for path in files.find(base)}
    assert names == {"/artifact.json", "/model.safetensors", "/files/tokenizer.json", "/annotations.json"}


def test_annotations_are_those_of_the_store(url: str, store: ArtifactStore, tmp_path: Path) -> None:
    version = put(store)
    elsewhere = ArtifactStore(url, cache=Cache(tmp_path / "another machine"))
    assert elsewhere.get(version).annotations() == {}
    store.annotate(version, {"score": 0.5})
    elsewhere.annotate(version, {"source": "there"})
    assert store.get(version).annotations() == {"score": 0.5, "source": "there"}
    assert elsewhere.get(version).annotations() == {"score": 0.5, "source": "there"}


def test_what_was_fetched_outlives_the_store(
    store: ArtifactStore, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    version, other = put(store), put(store, seed=1)
    store.get(version)

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("nobody there")

    for name in ("info", "ls", "cat_file", "exists"):
        monkeypatch.setattr(type(store._shelves[0]._files), name, fail)
    assert store.get(version).load_tensors()
    with pytest.raises(Unavailable, match="nobody there"):
        store.get(other)
    local = ArtifactStore(tmp_path / "local")
    mine = put(local, seed=2)
    assert ArtifactStore(url, tmp_path / "local", cache=Cache(tmp_path / "cache")).get(mine).version == mine


def test_half_an_artifact_is_none(url: str, store: ArtifactStore) -> None:
    write(url, f"{'0' * 20}/model.safetensors", b"x")
    with pytest.raises(NotFound):
        store.get("0" * 20)


def read_all(store: ArtifactStore, version: str) -> None:
    artifact = store.get(version)
    artifact.load_tensors()
    artifact.read_file("tokenizer.json")


DAMAGE = {
    "a tensor flipped": ("model.safetensors", None),
    "a file replaced": ("files/tokenizer.json", b"{}"),
    "a manifest of nothing": ("artifact.json", b"{}"),
    "a pickle": ("pytorch_model.bin", b"\x80\x04}."),
    "a pickle among the files": ("files/a.pt", b"\x80\x04}."),
    "an unknown file": ("run.py", b"print()"),
    "annotations that are none": ("annotations.json", b"[]"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_was_tampered_with_is_refused(url: str, store: ArtifactStore, name: str) -> None:
    version = put(store)
    path, data = DAMAGE[name]
    if data is None:
        files, base = fsspec.core.url_to_fs(url)
        whole = bytearray(files.cat_file(f"{base}/{version}/{path}"))
        whole[-1] ^= 1
        data = bytes(whole)
    write(url, f"{version}/{path}", data)
    with pytest.raises(FailedPrecondition):
        read_all(store, version)


def test_manifests_name_no_path(url: str, store: ArtifactStore, tmp_path: Path) -> None:
    version = put(store)
    manifest = json.loads((store.get(version).root / "artifact.json").read_text())
    elsewhere = ArtifactStore(url, cache=Cache(tmp_path / "another machine"))
    write(url, f"{version}/artifact.json", json.dumps({**manifest, "files": {"../../x": "0"}}).encode())
    with pytest.raises(FailedPrecondition, match="leave the artifact"):
        elsewhere.get(version)


def test_links_are_refused(tmp_path: Path) -> None:
    store = ArtifactStore(f"file://{tmp_path}/remote", cache=Cache(tmp_path / "cache"))
    version = put(store)
    tensors = tmp_path / "remote" / version / "model.safetensors"
    tensors.rename(tmp_path / "elsewhere")
    tensors.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FailedPrecondition, match="link"):
        store.get(version)


def test_sizes_are_capped(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    version = put(store)
    monkeypatch.setattr("services.artifacts.remote.MAX_TENSOR_BYTES", 8)
    with pytest.raises(FailedPrecondition, match="larger than 8 bytes"):
        store.get(version)


def test_a_damaged_cache_is_fetched_again(store: ArtifactStore, cache: Cache) -> None:
    version = put(store)
    store.get(version)
    (cache.root / version / "artifact.json").write_text("{}")
    assert store.get(version).load_tensors()


def test_fetching_at_once_gives_one_artifact(store: ArtifactStore, cache: Cache) -> None:
    version = put(store)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(store.get(version).version)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [version] * 8
    assert [path.name for path in cache.root.iterdir()] == [version]


def test_the_cache_is_bounded(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 3 * 2**20
    cache = Cache(tmp_path / "small", most)
    store = ArtifactStore(url, cache=cache)
    versions = [put(store, seed) for seed in range(5)]
    monkeypatch.setattr("services.artifacts.remote.MAX_ANNOTATION_BYTES", 2**20)
    for age, version in enumerate(versions):
        store.get(version)
        long_ago = 10_000 + 100 * age
        os.utime(cache.root / version, (long_ago, long_ago))
        (cache.root / version / "files" / "tokenizer.json").write_bytes(bytes(2**20))  # as if it were a large one
    kept = {path.name for path in cache.root.iterdir()}
    print(f"figure: {len(kept)} of {len(versions)} artifacts in a cache of 3 MiB")
    assert kept == set(versions[-2:])


def test_urls_that_nothing_speaks_are_refused(cache: Cache) -> None:
    with pytest.raises(InvalidRequest):
        RemoteShelf("nothing-speaks-this://x", cache)
