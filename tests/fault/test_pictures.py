"""Row 8: pictures that are small, odd, damaged, or none."""

from __future__ import annotations

import io
import random
from collections import Counter

import grpc
import numpy as np
import pytest
from PIL import Image as PillowImage

from anyplex import Client, Image
from anyplex.v1 import gateway_pb2
from tests.fault.bad_requests import with_source
from tests.fault.wire import send
from tests.pictures import encoded

pytestmark = pytest.mark.cluster


def strange_pictures() -> dict[str, bytes]:
    """Pictures that are small, odd, damaged, or none."""
    rng = random.Random(8)
    found: dict[str, bytes] = {}
    for mode, form in (
        ("RGB", "PNG"), ("L", "PNG"), ("1", "PNG"), ("P", "PNG"), ("LA", "PNG"), ("RGBA", "PNG"), ("CMYK", "JPEG"),
        ("L", "JPEG"), ("RGB", "GIF"), ("RGB", "BMP"), ("RGB", "WEBP"), ("CMYK", "TIFF"), ("P", "GIF"),
        ("YCbCr", "JPEG"),
    ):  # fmt: skip
        for size in (1, 2, 7, 64):
            found[f"{size}×{size} {mode} {form}"] = encoded(size, size, form, mode)
    deep = PillowImage.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16)
    for name, picture in (("16-bit", deep), ("32-bit", deep.convert("I")), ("float", deep.convert("F"))):
        buffer = io.BytesIO()
        picture.save(buffer, "TIFF" if name != "16-bit" else "PNG")
        found[f"{name} gray"] = buffer.getvalue()
    for shape in ((1, 4000), (4000, 1)):
        buffer = io.BytesIO()
        PillowImage.new("RGB", shape).save(buffer, "PNG")
        found[f"{shape[0]}×{shape[1]}"] = buffer.getvalue()
    for form in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"):
        data = encoded(3, 64, form)
        for share in (0.02, 0.2, 0.5, 0.9, 0.99):
            found[f"{form} cut at {share:.0%}"] = data[: max(1, int(len(data) * share))]
        for number in range(6):
            damaged = bytearray(data)
            for _ in range(1 + number):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            found[f"{form} damaged {number}"] = bytes(damaged)
    for size in (1, 8, 1000):
        found[f"{size} random bytes"] = rng.randbytes(size)
    found["text"] = b"this is no picture"
    found["svg"] = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    return found


def test_row_8_strange_pictures(channel: grpc.Channel, base: gateway_pb2.GenerateRequest) -> None:
    codes: Counter[str] = Counter()
    wrong = []
    for name, data in strange_pictures().items():
        request = with_source(base, "inline", data)
        request.messages[0].parts[1].media.mime_type = ""
        refusal = send(channel, request.SerializeToString())
        codes[refusal.code.name] += 1
        if refusal.code not in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT):
            wrong.append(f"{name}: {refusal.code.name} {refusal.message}")
        elif refusal.code is grpc.StatusCode.INVALID_ARGUMENT:
            assert "request.messages[0].parts[1].image" in refusal.fields, (name, refusal.fields, refusal.message)
    print(f"figure: row 8: {sum(codes.values())} pictures: {dict(codes)}")
    assert wrong == []
    assert codes["OK"] >= 30


def test_pictures_beside_strange_ones_are_answered(client: Client) -> None:
    assert client.generate(["what is this?", Image(encoded(1))], max_tokens=2).usage.media_tokens > 0
