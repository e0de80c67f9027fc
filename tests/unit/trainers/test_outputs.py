from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from services.playroom.making import CELLS, make_request
from services.playroom.scenes import Split
from services.trainers.captions import CaptionEncoder
from services.trainers.conversations import IGNORED, Encoder
from services.trainers.media import words_of
from services.trainers.outputs import MediaOutputs, OutputParts
from services.trainers.requests import SIGNALS, answer_text, conversation_of

TOKENIZER = next(Path(__file__).parents[3].glob("weights/artifacts/*/files/tokenizer.json"))
CONFIG = {"input_width": 16, "output_width": 64, "hidden_width": 16, "layers": 1, "heads": 2, "ff_width": 16}
QUERIES = {"image": {"n_queries": 13}, "video": {"n_queries": 5}, "audio": {"n_queries": 1, "vector": True}}


@pytest.mark.parametrize("cell", CELLS)
def test_answers_ask_for_every_medium_right_behind_its_sentence(cell: str) -> None:
    rng = np.random.default_rng(3)
    request = make_request(rng, cell)
    text = answer_text(request)
    for making in request.makes:
        assert f"{making.says}<|{making.modality}_0|>" in text
        assert text.count(f"<|{making.modality}_{SIGNALS[making.modality] - 1}|>") == 1
    assert text.count("_0|>") == len(request.makes)
    conversation = conversation_of(request, rng)
    assert [made for made, _ in conversation.makes] == [making.modality for making in request.makes]
    assert text in conversation.text
    assert conversation.text.count("<|media|>") == len(conversation.media)


def test_blocks_are_found_and_what_was_made_before_is_nothing_to_say() -> None:
    rng = np.random.default_rng(5)
    requests = [make_request(rng, "follow_up") for _ in range(6)]
    talks = [conversation_of(request, rng) for request in requests]
    encoder = Encoder(TOKENIZER.read_bytes())
    batch = encoder(talks, [words_of(shown, rng) for talk in talks for shown in talk.media])
    assert [made for made, _ in batch.makes] == [request.makes[0].modality for request in requests]
    first = [encoder.tokenizer.token_to_id(f"<|{made}_0|>") for made, _ in batch.makes]
    assert batch.ids.flatten()[batch.blocks].tolist() == first
    said = set(batch.labels[batch.labels != IGNORED].tolist())
    assert not said & {encoder.tokenizer.token_to_id(f"<|media{part}|>") for part in ("", "_begin", "_end")}


@pytest.mark.parametrize("modality", QUERIES)
def test_conditioning_is_held_against_what_captions_tell_the_generator(modality: str) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(1)
    cell = f"text_to_{modality}"
    talks = [conversation_of(make_request(rng, cell, Split.TRAIN), rng) for _ in range(3)]
    batch = Encoder(TOKENIZER.read_bytes())(talks, [])
    config = {**CONFIG, **QUERIES[modality], "signals": {modality: SIGNALS[modality]}}
    captions = CaptionEncoder(modality, 64)
    outputs = MediaOutputs({modality: OutputParts("transformer", config, None, captions)}, torch.device("cpu"))
    projector = outputs.projectors[modality]
    assert torch.equal(projector.negative_conditioning(), outputs.wanted(modality, [""])[0])
    hidden = torch.randn(*batch.ids.shape, 16)
    before = float(outputs.distance(batch, hidden, hidden).detach())
    optimizer = torch.optim.Adam([p for p in projector.parameters() if p.requires_grad], 0.01)
    for _ in range(150):
        outputs.distance(batch, hidden, hidden).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert float(outputs.distance(batch, hidden, hidden).detach()) < 0.2 * before


def test_every_signal_token_of_a_picture_learns_to_be_about_its_own_object() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(2)
    talks = [conversation_of(make_request(rng, "text_to_image", Split.TRAIN), rng) for _ in range(4)]
    batch = Encoder(TOKENIZER.read_bytes())(talks, [])
    config = {**CONFIG, **QUERIES["image"], "signals": {"image": SIGNALS["image"]}}
    parts = {"image": OutputParts("transformer", config, None, CaptionEncoder("image", 64))}
    outputs = MediaOutputs(parts, torch.device("cpu"))
    assert outputs.objects is not None
    hidden = torch.randn(*batch.ids.shape, 16, requires_grad=True)
    optimizer = torch.optim.Adam([*outputs.objects.parameters(), hidden], 0.05)
    before = float(outputs.spoken_of(batch, hidden).detach())
    for _ in range(60):
        optimizer.zero_grad()
        outputs.spoken_of(batch, hidden).backward()
        optimizer.step()
    assert float(outputs.spoken_of(batch, hidden).detach()) < 0.05 * before
    assert hidden.grad is not None  # only what signal tokens were made from is taught
    assert int((hidden.grad.abs().sum(-1) > 0).sum()) == len(talks) * SIGNALS["image"]
