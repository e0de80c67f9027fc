"""What is converted to the contract and back is what it was."""

from __future__ import annotations

import pytest

from anyplex.v1 import backbone_pb2, component_pb2, encoder_pb2, gateway_pb2, tool_pb2, training_pb2, types_pb2
from graph import messages as m
from services.runtime import convert, convert_nodes

STATES_TD = m.Tensor("float32", (2, 1), ("tokens", "width"), b"\0" * 8)
LOGPROBS = (
    m.TokenLogprob(7, -0.5, (m.TokenLogprob(7, -0.5), m.TokenLogprob(9, -1.5))),
    m.TokenLogprob(8, -2.5, (m.TokenLogprob(3, -0.25), m.TokenLogprob(8, -2.5))),
)


@pytest.mark.parametrize(
    "segment",
    [
        m.Segment(text="what is this?"),
        m.Segment(token_ids=(3, 4, 4), position_ids=(0, 0, 1)),
        m.Segment(
            embeddings=STATES_TD, modality="image", token_type="media", position_mode="shared", content_hash="h",
            position_ids=(5, 2),
        ),
        m.Segment(cross_memory=STATES_TD, modality="video"),
    ],
)  # fmt: skip
def test_segments(segment: m.Segment) -> None:
    assert convert.segment_from_proto(convert.segment_to_proto(segment)) == segment


@pytest.mark.parametrize(
    "event",
    [
        m.DecodeStarted(12, 9, 1),
        m.DecodedText("cat", (7, 8), LOGPROBS, 2),
        m.SignalBlock(1, "image", STATES_TD, STATES_TD, "here: ", 3, (258, 259)),
        m.DecodeFinished("length", 4, 0.25, 5),
    ],
)
def test_decode_events(event: m.DecodeEvent) -> None:
    assert convert_nodes.decode_event_from_proto(convert_nodes.decode_event_to_proto(event)) == event


def test_each_token_of_a_text_has_its_own_alternatives() -> None:
    message = convert.event_to_proto(m.Event("think", m.TextDelta("cat", LOGPROBS)), 3)
    found = [(one.token_id, [other.token_id for other in one.alternatives]) for one in message.text.logprobs]
    assert found == [(7, [7, 9]), (8, [3, 8])]


def test_an_answer_points_to_regions() -> None:
    body = m.RegionsFound(1, (m.Region(0.25, 0.5, 0.75, 1.0, "cat"),), 2, 5)
    message = convert.event_to_proto(m.Event("ground", body, choice=1), 3)
    expected = types_pb2.RegionsFound(
        media_index=1,
        regions=[types_pb2.Region(x1=0.25, y1=0.5, x2=0.75, y2=1.0, label="cat")],
        text_start=2,
        text_end=5,
    )
    assert message == gateway_pb2.Event(sequence=3, node="ground", choice=1, regions_found=expected)


def test_media_with_time_come_as_features() -> None:
    media = m.Media("video", features=m.Tensor("uint8", (2, 1, 2), ("frames", "tokens", "width"), b"\0" * 4))
    assert convert.media_from_proto(convert.media_to_proto(media)) == media


def test_the_contracts_carry_what_the_systems_need() -> None:
    """Points of the survey's systems that no component of ours uses yet."""
    adapters = encoder_pb2.EncodeRequest(window_adapters=[encoder_pb2.WindowAdapters(indices=[0, 1, -1])] * 2)
    assert [list(one.indices) for one in adapters.window_adapters] == [[0, 1, -1]] * 2
    count = component_pb2.TokenCount(fixed_tokens=256, tokens_per_unit=256, unit="window", max_units=4)
    assert component_pb2.ContractCard(token_counts={"image": count}).token_counts["image"].max_units == 4
    run = tool_pb2.RunRequest(text="a cat", media=[types_pb2.Media(modality="image", handle="h")])
    assert not run.HasField("block")
    assert tool_pb2.RunRequest(block=backbone_pb2.SignalBlock(modality="tool")).HasField("block")
    kinds = {field.name for field in tool_pb2.RunResponse.DESCRIPTOR.oneofs_by_name["event"].fields}
    assert kinds == {"text", "regions", "media_started", "media_chunk"}
    assert training_pb2.GiveFeedbackRequest(request_id="r", better_than="r", choice=2, worse_choice=1).choice == 2


def test_rendering_survives_the_wire() -> None:
    tensor = m.Tensor("float32", (2, 3), (), bytes(24))
    request = m.RenderRequest(
        m.Conditioning({"prompt_embeds": tensor}, {"prompt_embeds": tensor}),
        m.MediaParameters(width=64, steps=20, guidance_scale=1.5, mime_type="image/png", preview_every_steps=5),
        seed=2**64 - 1,
        priority=-3,
        references=(m.Media("image", data=b"x"),),
    )
    assert convert_nodes.render_from_proto(convert_nodes.render_to_proto(request, m.VersionRef())) == request
    for event in (m.RenderStarted("image/png"), m.RenderProgress(3, 20, b"png"), m.RenderChunk(b"data", True)):
        assert convert_nodes.render_event_from_proto(convert_nodes.render_event_to_proto(event)) == event
