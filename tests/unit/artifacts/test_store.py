from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from graph.errors import FailedPrecondition, InvalidRequest, NotFound
from services.artifacts import ArtifactStore

CONFIG = {"width": 8, "mean": [0.5, 0.25], "name": "größer"}
FILES = {"tokenizer.json": b'{"a": 1}', "chat_template.txt": b"{{ messages }}"}


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn(8, 4, generator=generator),
        "half": torch.randn(3, generator=generator).bfloat16(),
        "ids": torch.arange(5),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
    }


def put(store: ArtifactStore, seed: int = 0, **changed: object) -> str:
    given: dict[str, object] = {
        "kind": "encoder", "type": "clip_vision", "config": CONFIG, "tensors": tensors(seed), "files": FILES,
    }  # fmt: skip
    return store.put(**{**given, **changed})  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def test_what_was_put_comes_back(store: ArtifactStore) -> None:
    artifact = store.get(put(store))
    assert (artifact.kind, artifact.type, artifact.config) == ("encoder", "clip_vision", CONFIG)
    loaded = artifact.load_tensors()
    assert loaded.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
    assert {name: artifact.read_file(name) for name in FILES} == FILES
    assert artifact.annotations() == {}
    assert store.versions() == [artifact.version]


def test_the_version_is_of_the_content_and_of_nothing_else(store: ArtifactStore, tmp_path: Path) -> None:
    version = put(store)
    assert put(store) == version == put(ArtifactStore(tmp_path / "elsewhere"), annotations={"score": 1})
    assert put(store, config=dict(reversed(CONFIG.items()))) == version
    others = {
        put(store, kind="backbone"),
        put(store, type="other"),
        put(store, config={**CONFIG, "width": 9}),
        put(store, seed=1),
        put(store, files={**FILES, "tokenizer.json": b"{}"}),
        put(store, files={}),
        put(store, tensors={**tensors(), "weight": tensors()["weight"].reshape(4, 8)}),
        put(store, tensors={**tensors(), "weight": tensors()["weight"].double()}),
    }
    assert len(others) == 8
    assert version not in others


def test_annotations_are_kept_beside_and_merged(store: ArtifactStore) -> None:
    version = put(store, annotations={"score": 0.5})
    store.annotate(version, {"source": "here"})
    assert store.get(version).annotations() == {"score": 0.5, "source": "here"}
    assert put(store, annotations={"score": 0.75}) == version
    assert store.get(version).annotations() == {"score": 0.75, "source": "here"}


def test_other_directories_are_looked_into_and_never_written_to(tmp_path: Path) -> None:
    other = ArtifactStore(tmp_path / "other")
    version = put(other)
    both = ArtifactStore(tmp_path / "own", tmp_path / "other", tmp_path / "not there")
    assert both.get(version).version == version
    assert both.versions() == [version]
    new = put(both, seed=1)
    assert not (tmp_path / "other" / new).exists()
    assert (tmp_path / "own" / new).exists()


# ---- what was tampered with ------------------------------------------------------------------------------


def read_all(store: ArtifactStore, version: str) -> None:
    artifact = store.get(version)
    artifact.load_tensors()
    for name in FILES:
        artifact.read_file(name)


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x40
    path.write_bytes(bytes(data))


def edit(change: Callable[[dict[str, object]], None]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        manifest = json.loads((root / "artifact.json").read_text())
        change(manifest)
        (root / "artifact.json").write_text(json.dumps(manifest))

    return damage


def swapped(root: Path) -> None:
    """Tensors of another artifact, which are whole in themselves."""
    other = ArtifactStore(root.parent.parent / "swap")
    (root / "model.safetensors").write_bytes((other.root / put(other, seed=5) / "model.safetensors").read_bytes())


def linked(name: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = root / name
        elsewhere = root.parent.parent / "elsewhere"
        path.rename(elsewhere)
        path.symlink_to(elsewhere)

    return damage


def piped(name: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        (root / name).unlink()
        os.mkfifo(root / name)

    return damage


def foldered(name: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        (root / name).unlink()
        (root / name).mkdir()

    return damage


DAMAGE: dict[str, Callable[[Path], None]] = {
    "first byte of the tensors' header": lambda root: flip(root / "model.safetensors", 0),
    "middle of the tensors' header": lambda root: flip(root / "model.safetensors", 20),
    "last byte of the tensors": lambda root: flip(root / "model.safetensors", -1),
    "tensors cut short": lambda root: (root / "model.safetensors").write_bytes(b"\x08" + bytes(7)),
    "no tensors": lambda root: (root / "model.safetensors").unlink(),
    "tensors of another artifact": swapped,
    "a pickle for tensors": lambda root: (root / "model.safetensors").write_bytes(b"\x80\x04}."),
    "first byte of a file": lambda root: flip(root / "files" / "tokenizer.json", 0),
    "a longer file": lambda root: (root / "files" / "tokenizer.json").write_bytes(b'{"a": 1} '),
    "no file": lambda root: (root / "files" / "tokenizer.json").unlink(),
    "manifest cut short": lambda root: (root / "artifact.json").write_text("{"),
    "manifest of another form": lambda root: (root / "artifact.json").write_text("[]"),
    "manifest without config": edit(lambda manifest: manifest.pop("config")),
    "another kind": edit(lambda manifest: manifest.update(kind="backbone")),
    "another type": edit(lambda manifest: manifest.update(type="other")),
    "another config": edit(lambda manifest: manifest.update(config={})),
    "a file that leaves the artifact": edit(lambda manifest: manifest.update(files={"../x": "0"})),
    "tensors linked": linked("model.safetensors"),
    "manifest linked": linked("artifact.json"),
    "file linked": linked("files/tokenizer.json"),
    "files linked": linked("files"),
    "a pickle beside the tensors": lambda root: (root / "pytorch_model.bin").write_bytes(b"\x80\x04}."),
    "a pickle among the files": lambda root: (root / "files" / "weights.pt").write_bytes(b"\x80\x04}."),
    "a pickle that the manifest names": edit(lambda manifest: manifest.update(files={"weights.pt": "0"})),
    "a link beside the tensors": lambda root: (root / "more").symlink_to("/etc"),
    "a file that nobody knows": lambda root: (root / "notes.txt").write_text("hello"),
    "a pipe for tensors": piped("model.safetensors"),
    "a folder for tensors": foldered("model.safetensors"),
    "a manifest nested too deeply": lambda root: (root / "artifact.json").write_text("[" * 100_000),
    "a config with NaN": edit(lambda manifest: manifest.update(config={"a": float("nan")})),
    "too many files": edit(lambda manifest: manifest.update(files={f"f{i}": "0" for i in range(65)})),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_was_tampered_with_is_refused(store: ArtifactStore, name: str) -> None:
    version = put(store)
    DAMAGE[name](store.root / version)
    with pytest.raises((FailedPrecondition, NotFound)) as refused:
        read_all(store, version)
    assert str(store.root) not in str(refused.value)


def test_everything_tampered_with_is_refused_and_nothing_else(tmp_path: Path) -> None:
    refused = 0
    for number, damage in enumerate(DAMAGE.values()):
        store = ArtifactStore(tmp_path / str(number) / "artifacts")
        version = put(store)
        read_all(store, version)
        damage(store.root / version)
        with contextlib.suppress(FailedPrecondition, NotFound):
            read_all(store, version)
            continue
        refused += 1
    print(f"figure: {refused} of {len(DAMAGE)} artifacts that were tampered with are refused")
    assert refused == len(DAMAGE)


def test_every_single_byte_counts(store: ArtifactStore) -> None:
    version = put(store, tensors={"weight": torch.ones(4)}, files={"a": b"abc"})
    root = store.root / version
    refused = total = 0
    for path in (root / "model.safetensors", root / "files" / "a", root / "artifact.json"):
        for offset in range(path.stat().st_size):
            before = path.read_bytes()
            flip(path, offset)
            total += 1
            try:
                artifact = store.get(version)
                loaded = artifact.load_tensors()
                content = (artifact.kind, artifact.type, artifact.config, artifact.read_file("a"))
            except (FailedPrecondition, NotFound):
                refused += 1
            else:
                # Blanks between the words of a file carry nothing: what comes back is the same.
                assert torch.equal(loaded["weight"], torch.ones(4))
                assert content == ("encoder", "clip_vision", CONFIG, b"abc")
            path.write_bytes(before)
    print(f"figure: {refused} of {total} flipped bytes refused, the others harmless")
    assert refused > 0.8 * total


def test_artifacts_that_are_links_are_not_there(store: ArtifactStore, tmp_path: Path) -> None:
    version = put(store)
    (store.root / version).rename(tmp_path / "elsewhere")
    (store.root / version).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotFound):
        store.get(version)


@pytest.mark.parametrize(
    "version", ["", "..", "../../etc", "/etc/passwd", "x" * 20, "0" * 19, "0" * 21, "0" * 19 + "\n", "A" * 20]
)
def test_what_is_not_a_version_is_refused(store: ArtifactStore, version: str) -> None:
    put(store)
    with pytest.raises(InvalidRequest):
        store.get(version)


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "/x", ".hidden", "", "x" * 101, "a\x00b", "a\n", "model.pt", "pytorch_model.bin", "A.PKL"]
)
def test_names_of_files_stay_within_the_artifact(store: ArtifactStore, name: str) -> None:
    with pytest.raises(InvalidRequest):
        put(store, files={name: b""})
    assert store.versions() == []


def test_unknown_versions_and_files_are_not_found(store: ArtifactStore) -> None:
    with pytest.raises(NotFound):
        store.get("0" * 20)
    with pytest.raises(NotFound):
        store.get(put(store)).read_file("nothing")


def test_putting_the_same_at_once_gives_one_artifact(store: ArtifactStore) -> None:
    versions: list[str] = []
    begin = threading.Barrier(8)

    def work() -> None:
        begin.wait()
        versions.append(put(store))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(versions) == 8
    assert len(set(versions)) == 1
    assert [path.name for path in store.root.iterdir()] == [versions[0]], "no scratch directory may stay"
    read_all(store, versions[0])


def test_a_put_that_fails_leaves_nothing(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("services.artifacts.local._sync", fail)
    with pytest.raises(OSError, match="disk full"):
        put(store)
    assert list(store.root.iterdir()) == []


def test_what_is_too_large_is_neither_written_nor_read(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    version = put(store)
    monkeypatch.setattr("services.artifacts.store.MAX_TENSOR_BYTES", 8)
    with pytest.raises(InvalidRequest, match="at most 8"):
        put(store, seed=1)
    monkeypatch.setattr("services.artifacts.artifact.MAX_TENSOR_BYTES", 8)
    with pytest.raises(FailedPrecondition, match="larger than 8 bytes"):
        store.get(version).load_tensors()
    with pytest.raises(InvalidRequest, match="at most"):
        store.annotate(version, {"long": "x" * 2**20})
    (store.root / version / "annotations.json").write_text("x" * (2**20 + 1))
    with pytest.raises(FailedPrecondition, match="larger"):
        store.get(version).annotations()


def test_configs_are_json_and_may_be_infinite(store: ArtifactStore) -> None:
    assert store.get(put(store, config={"a": float("-inf")})).config == {"a": float("-inf")}
    with pytest.raises(InvalidRequest, match="JSON"):
        put(store, config={"a": object()})


def test_scores_of_nothing_are_nothing(store: ArtifactStore) -> None:
    assert store.get(put(store, annotations={"score": float("nan")})).annotations() == {"score": None}


def test_annotating_at_once_loses_nothing(store: ArtifactStore) -> None:
    version = put(store)
    threads = [threading.Thread(target=store.annotate, args=(version, {f"key{i}": i})) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get(version).annotations() == {f"key{i}": i for i in range(20)}


def test_only_the_first_place_is_annotated(tmp_path: Path) -> None:
    version = put(ArtifactStore(tmp_path / "other"))
    with pytest.raises(NotFound):
        ArtifactStore(tmp_path / "own", tmp_path / "other").annotate(version, {"score": 1})


def test_bundled_weights_keep_their_versions() -> None:
    bundled = ArtifactStore(Path(__file__).resolve().parents[3] / "weights" / "artifacts")
    versions = bundled.versions()
    assert len(versions) >= 15
    for version in versions:
        artifact = bundled.get(version)
        assert artifact.annotations()
        for name in artifact.file_digests:
            artifact.read_file(name)
