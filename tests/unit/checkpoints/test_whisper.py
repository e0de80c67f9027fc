"""Whisper checkpoints in Hugging Face format: their features through the component are transformers' own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from anyplex.v1 import component_pb2, component_pb2_grpc, encoder_pb2, encoder_pb2_grpc, types_pb2
from graph.catalog import load_catalog
from graph.errors import InvalidRequest
from services.artifacts import ArtifactStore
from services.checkpoints import import_checkpoint
from services.deploy.plans import plan_deployment
from services.runtime.component import Held
from services.runtime.convert import tensor_from_proto
from services.runtime.factory import ComponentSpec
from services.runtime.server import ComponentServer
from services.runtime.settings import RuntimeSettings
from services.runtime.tensors import TensorStore, to_torch
from tests.cluster import make_tiny_weights
from tests.fakes import tiny
from tests.sounds import RATE_HZ, encoded, noise, tone

WINDOW_S = 30
SMALL: dict[str, Any] = {
    "d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_layers": 1,
    "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "decoder_start_token_id": 3, "suppress_tokens": [], "begin_suppress_tokens": [],
}  # fmt: skip


def make_checkpoint(
    path: Path, head: str = "WhisperForConditionalGeneration", shard: str = "5GB", **changed: Any
) -> Any:
    """Write a small random checkpoint as transformers does; return its encoder."""
    import transformers

    torch.manual_seed(0)
    config = transformers.WhisperConfig(**{**SMALL, **changed})
    model = getattr(transformers, head)(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Biases and norms of a new model are zeros and ones, and would hide a mapping gone wrong.
            if parameter.ndim == 1:
                parameter.copy_(torch.randn(parameter.shape) * 0.2 + ("norm.weight" in name))
            else:
                parameter.copy_(torch.randn(parameter.shape) * (2 / parameter[0].numel()) ** 0.5)
    model.save_pretrained(path, max_shard_size=shard)
    transformers.WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(path)
    return model.encoder if hasattr(model, "encoder") else model.get_encoder()


def expected_features(path: Path, encoder: Any, samples_T: NDArray[np.float32]) -> torch.Tensor:
    """What transformers gives for one window."""
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor.from_pretrained(path)
    inputs = extractor(samples_T, sampling_rate=RATE_HZ, return_tensors="pt")
    with torch.inference_mode():
        features: torch.Tensor = encoder(inputs["input_features"]).last_hidden_state[0]
    return features


async def encode(store: ArtifactStore, version: str, *files: bytes) -> tuple[list[torch.Tensor], Any]:
    """Encode over gRPC; return the features and the contract card."""
    spec = ComponentSpec(
        component="ears", kind="encoder", type="whisper", factory=load_catalog()["encoder", "whisper"].factory,
        store_paths=(str(store.root),), held=(Held(version),),
    )  # fmt: skip
    server = ComponentServer(spec.build(), RuntimeSettings(metrics=False))
    address = await server.start()
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            items = [types_pb2.Media(modality="audio", inline=file) for file in files]
            stub = encoder_pb2_grpc.EncoderServiceStub(channel)
            reply = await stub.Encode(encoder_pb2.EncodeRequest(items=items), timeout=60)
            # Long features do not travel inline.
            reader = TensorStore()
            features = [
                to_torch(await reader.resolve(tensor_from_proto(one.tensor), "features")) for one in reply.items
            ]
            describe = component_pb2_grpc.ComponentServiceStub(channel).Describe
            card = (await describe(component_pb2.DescribeRequest())).card
    finally:
        await server.stop(grace_s=0.0)
    return features, card


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    torch.set_num_threads(1)
    return ArtifactStore(tmp_path / "store")


@pytest.mark.parametrize(
    ("head", "changed"),
    [
        ("WhisperForConditionalGeneration", {}),
        ("WhisperForConditionalGeneration", {"num_mel_bins": 128}),
        ("WhisperModel", {"shard": "20KB"}),
        ("WhisperForAudioClassification", {}),
    ],
)
async def test_features_are_those_of_transformers(
    head: str, changed: dict[str, Any], tmp_path: Path, store: ArtifactStore
) -> None:
    path = tmp_path / "whisper"
    encoder = make_checkpoint(path, head, **changed)
    assert (path / "model.safetensors.index.json").exists() == ("shard" in changed)
    slots = import_checkpoint("ears", path, store)
    assert set(slots) == {"hear"}
    rng = np.random.default_rng(0)
    sounds = [tone(2.0), noise(RATE_HZ)[:, 0], (tone(WINDOW_S) * rng.uniform(0.1, 1)).astype(np.float32), np.zeros(1)]
    found, card = await encode(
        store, slots["hear"], *(encoded(sound.astype(np.float32), "WAV", "FLOAT") for sound in sounds)
    )
    for sound, features_TF in zip(sounds, found, strict=True):
        expected_TF = expected_features(path, encoder, sound.astype(np.float32))
        assert features_TF.shape == (1500, 32)
        worst = (features_TF - expected_TF).abs().max().item()
        print(f"figure: {head} {changed}: at most {worst:.1e} from transformers")
        assert worst < 1e-4
    assert (found[0] - found[1]).abs().max() > 0.1, "what is heard matters"
    assert (card.output_width, card.token_counts["audio"].unit) == (32, "window")


async def test_what_is_longer_than_a_window_goes_on_in_the_next(tmp_path: Path, store: ArtifactStore) -> None:
    path = tmp_path / "whisper"
    encoder = make_checkpoint(path)
    slots = import_checkpoint("ears", path, store)
    samples = noise(40 * RATE_HZ)[:, 0]
    (found,), card = await encode(store, slots["hear"], encoded(samples, "WAV", "FLOAT"))
    parts = [expected_features(path, encoder, part) for part in (samples[: 30 * RATE_HZ], samples[30 * RATE_HZ :])]
    torch.testing.assert_close(found, torch.cat(parts), rtol=0, atol=1e-4)
    assert card.max_tokens_per_item == 4 * 1500
    assert card.token_counts["audio"].tokens_per_unit * card.token_counts["audio"].max_units == 4 * 1500


def test_a_profile_gives_a_system_these_ears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_checkpoint(tmp_path / "whisper")
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("ANYPLEX_WEIGHTS", str(tmp_path / "weights"))
    system = str(Path(tiny.__file__).parent / "everything.yaml")
    versions = make_tiny_weights(tmp_path / "weights", [system])["everything"]
    profile = tmp_path / "profile.yaml"
    profile.write_text(yaml.safe_dump({"profile": "own", "weights": {"everything.hear": str(tmp_path / "whisper")}}))
    found = plan_deployment([system], str(profile), store=tmp_path / "own").systems["everything"].versions
    assert found["hear"] != versions["hear"]
    assert ArtifactStore(tmp_path / "own").get(found["hear"]).config["dims"]["n_audio_ctx"] == 1500
    assert {slot for slot in versions if found[slot] != versions[slot]} == {"hear"}


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"activation_function": "relu"}, "activation_function 'relu'"),
        ({"encoder_ffn_dim": 64}, "encoder_ffn_dim 64, 128 expected"),
        ({"num_mel_bins": 40}, r"n_mels: 40; expected one of \(80, 128\)"),
        ({"max_source_positions": 100}, "chunk_length 30, 2.0 expected"),
    ],
)
def test_other_layers_are_refused(
    changed: dict[str, Any], complaint: str, tmp_path: Path, store: ArtifactStore
) -> None:
    make_checkpoint(tmp_path / "whisper", **changed)
    with pytest.raises(InvalidRequest, match=complaint):
        import_checkpoint("ears", tmp_path / "whisper", store)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("feature_size", 128), ("sampling_rate", 8_000), ("hop_length", 80), ("n_fft", 512), ("chunk_length", 10),
        ("dither", 0.1), ("do_normalize", True), ("padding_value", 1.0),
    ],
)  # fmt: skip
def test_another_front_end_is_refused(name: str, value: object, tmp_path: Path, store: ArtifactStore) -> None:
    make_checkpoint(tmp_path / "whisper")
    file = tmp_path / "whisper" / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))
    with pytest.raises(InvalidRequest, match=f"feature extractor: {name} {value}, .* expected"):
        import_checkpoint("ears", tmp_path / "whisper", store)


def test_a_front_end_inside_a_processor_is_found(tmp_path: Path, store: ArtifactStore) -> None:
    make_checkpoint(tmp_path / "whisper")
    file = tmp_path / "whisper" / "preprocessor_config.json"
    (tmp_path / "whisper" / "processor_config.json").write_text(
        json.dumps({"feature_extractor": json.loads(file.read_text())})
    )
    file.unlink()
    assert set(import_checkpoint("ears", tmp_path / "whisper", store)) == {"hear"}
    (tmp_path / "whisper" / "processor_config.json").unlink()
    with pytest.raises(InvalidRequest, match=r"no preprocessor_config\.json"):
        import_checkpoint("ears", tmp_path / "whisper", store)


def test_tensors_that_do_not_fit_are_refused(tmp_path: Path, store: ArtifactStore) -> None:
    make_checkpoint(tmp_path / "whisper")
    file = tmp_path / "whisper" / "model.safetensors"
    tensors = load_file(file)
    for spoil in (
        {"model.encoder.layers.0.self_attn.k_proj.bias": torch.zeros(32)},
        {"model.encoder.layer_norm.weight": torch.zeros(31)},
        {"model.encoder.layers.7.fc1.weight": torch.zeros(2, 2)},
    ):
        save_file({**tensors, **spoil}, file)
        with pytest.raises(InvalidRequest, match="1 tensors of its encoder are missing, unknown or of another shape"):
            import_checkpoint("ears", tmp_path / "whisper", store)
