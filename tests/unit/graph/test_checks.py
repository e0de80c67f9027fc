"""Requests are refused before any model runs, with the path of every wrong field."""

from __future__ import annotations

import dataclasses
import time

import pytest

from graph.checks import MAX_VIOLATIONS, check_request
from graph.errors import InvalidRequest
from graph.messages import Media, MediaParameters, Message, Part, Region, Request, Sampling
from tests.fakes.caller import tensor
from tests.unit.graph.worlds import asking, compiled, said, shown, turn

PLAN = compiled()
NAN, INF = float("nan"), float("inf")


def wrong(request: Request, idempotency_key: str = "") -> list[str]:
    try:
        check_request(request, PLAN, idempotency_key)
    except InvalidRequest as error:
        return [str(violation) for violation in error.violations]
    return []


def test_good_requests_pass() -> None:
    check_request(asking(), PLAN, idempotency_key="k" * 128)
    check_request(
        asking(
            turn(said("be brief"), role="system"),
            turn(shown("a"), said("what? 🎨 \n"), shown("b", "audio")),
            turn(said("this"), role="assistant"),
            turn(Part(media=Media("image", features=tensor(), regions=(Region(0, 0, 1, 1, "box"),)))),
            sampling=Sampling(max_tokens=5, temperature=2, top_p=0.1, n=16, stop=("a",) * 16, logprobs=20),
            outputs=("text", "image"),
            media_parameters={"image": MediaParameters(width=64, seconds=1.5, mime_type="image/gif")},
            priority=10,
        ),
        PLAN,
    )


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ((Message("user", ()),), "request.messages[0].parts"),
        ((turn(said("  ")),), "request.messages[0].parts"),
        ((turn(said("a")), turn(said("b"), role="assistant")), "request.messages[1].role"),
        ((turn(said("a")), turn(said("b"), role="system"), turn(said("c"))), "request.messages[1].role"),
        ((turn(said("a")), Message("robot", (said("b"),)), turn(said("c"))), "request.messages[1].role"),  # type: ignore[arg-type]
        ((turn(said("x"), said("a\x00b")),), "request.messages[0].parts[1].text"),
        ((turn(said("a\ud800b")),), "request.messages[0].parts[0].text"),
        ((turn(said("a" * 200_001)),), "request.messages"),
        ((turn(*[said("a")] * 257),), "request.messages"),
        ((turn(said("a")),) * 129, "request.messages"),
        ((turn(shown("a", "depth")),), "request.messages[0].parts[0].depth"),
        ((turn(shown("a", "Bad\x00" * 1000)),), "request.messages[0].parts[0].media.modality"),
        ((turn(Part(media=Media("image"))),), "request.messages[0].parts[0].image"),
        ((turn(Part(media=Media("image", data=b""))),), "request.messages[0].parts[0].image"),
        ((turn(Part(media=Media("image", data=b"a", handle="h"))),), "request.messages[0].parts[0].image"),
        ((turn(Part("a", Media("image", data=b"a"))),), "request.messages[0].parts[0]"),
        ((turn(Part(media=Media("image", "png", b"a"))),), "request.messages[0].parts[0].image.mime_type"),
        ((turn(Part(media=Media("image", handle="h" * 129))),), "request.messages[0].parts[0].image"),
        (
            (turn(Part(media=Media("image", data=b"a", regions=(Region(0, 0, NAN, 1),)))),),
            "request.messages[0].parts[0].image.regions[0]",
        ),
        (
            (turn(Part(media=Media("image", data=b"a", regions=(Region(0, 0, 1, 1),) * 65))),),
            "request.messages[0].parts[0].image.regions",
        ),
    ],
)
def test_wrong_messages_are_named(messages: tuple[Message, ...], field: str) -> None:
    found = wrong(asking(*messages))
    assert len(found) == 1, found
    assert found[0].startswith(f"{field}: ")
    assert len(found[0]) < 300


def test_no_messages() -> None:
    assert wrong(dataclasses.replace(asking(), messages=())) == [
        "request.messages: empty, at least one message expected"
    ]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("max_tokens", [0, -1, 10**400]),
        ("temperature", [NAN, INF, -INF, -0.1, 2.01]),
        ("top_p", [NAN, 0.0, -1.0, 1.01, INF]),
        ("top_k", [-1, 10**9]),
        ("repetition_penalty", [NAN, 0.0, -1.0, 10.5, INF]),
        ("presence_penalty", [NAN, -2.1, 2.1, INF]),
        ("frequency_penalty", [NAN, -2.1, 2.1, -INF]),
        ("seed", [-1, 2**64]),
        ("n", [0, -1, 17, 1_000_000]),
        ("logprobs", [-1, 21]),
        ("stop", [("a",) * 17]),
    ],
)
def test_every_number_has_its_range(field: str, values: list[object]) -> None:
    for value in values:
        sampling = dataclasses.replace(Sampling(), **{field: value})  # type: ignore[arg-type]
        found = wrong(asking(sampling=sampling))
        assert len(found) == 1
        assert found[0].startswith(f"request.sampling.{field}: ")


def test_stop_strings() -> None:
    found = wrong(asking(sampling=Sampling(stop=("", "x" * 257, "\x00"))))
    assert [violation.split(":")[0] for violation in found] == [f"request.sampling.stop[{index}]" for index in range(3)]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"outputs": ("video",)}, "request.outputs[0]"),
        ({"outputs": ("image", "image")}, "request.outputs[1]"),
        ({"outputs": ("image",) * 1000}, "request.outputs"),
        ({"media_parameters": {"video": MediaParameters()}}, "request.media_parameters['video']"),
        ({"media_parameters": {"text": MediaParameters()}}, "request.media_parameters['text']"),
        ({"media_parameters": {"image": MediaParameters(width=0)}}, "request.media_parameters['image'].width"),
        ({"media_parameters": {"image": MediaParameters(steps=10**6)}}, "request.media_parameters['image'].steps"),
        (
            {"media_parameters": {"image": MediaParameters(guidance_scale=NAN)}},
            "request.media_parameters['image'].guidance_scale",
        ),
        ({"media_parameters": {"audio": MediaParameters(seconds=INF)}}, "request.media_parameters['audio'].seconds"),
        ({"media_parameters": {"audio": MediaParameters(mime_type="x")}}, "request.media_parameters['audio'].mime"),
        ({"priority": 11}, "request.priority"),
        ({"priority": -11}, "request.priority"),
        ({"session_id": "s" * 129}, "request.session_id"),
        ({"session_id": "a\x00"}, "request.session_id"),
    ],
)
def test_the_rest_is_named(change: dict[str, object], field: str) -> None:
    found = wrong(dataclasses.replace(asking(), **change))  # type: ignore[arg-type]
    assert len(found) == 1
    assert found[0].startswith(field)


def test_idempotency_key() -> None:
    assert wrong(asking(), idempotency_key="k" * 129)[0].startswith("request.idempotency_key: 129 characters")


def test_everything_is_told_at_once_and_in_time() -> None:
    request = asking(
        *[turn(said("\x00"), shown("a", "depth")) for _ in range(100)],
        sampling=Sampling(n=10**9, max_tokens=-1, temperature=NAN, stop=("x" * 10_000,) * 100_000),
    )
    start = time.perf_counter()
    with pytest.raises(InvalidRequest) as caught:
        check_request(request, PLAN)
    assert time.perf_counter() - start < 0.2  # ten times the bound of the fault matrix
    assert len(caught.value.violations) == MAX_VIOLATIONS
    assert caught.value.where == caught.value.violations[0].field
    few = wrong(asking(sampling=Sampling(n=0, temperature=NAN), session_id="s" * 200))
    assert [violation.split(":")[0] for violation in few] == [
        "request.sampling.temperature",
        "request.sampling.n",
        "request.session_id",
    ]
