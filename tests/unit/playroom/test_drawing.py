from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from services.playroom.drawing import draw_scenes, encode_picture, inside_shape, picture_of
from services.playroom.scenes import Scene, SceneObject, draw_scene

_AREAS = {
    "circle": math.pi,
    "square": 1.8**2,
    "triangle": 3 * math.sqrt(3) / 4 * 1.1**2,
    "star": 5 * 1.1 * 0.45 * math.sin(math.pi / 5),
    "cross": 4 * 2 * 0.3 - 0.6**2,
    "ring": math.pi * (1 - 0.55**2),
}


@pytest.mark.parametrize("shape", sorted(_AREAS))
def test_shapes_have_the_area_that_their_definition_gives(shape: str) -> None:
    axis = ((np.arange(1200) + 0.5) / 500 - 1.2).astype(np.float32)
    inside = inside_shape(shape, axis[None, :], axis[:, None])
    assert inside.mean() * 2.4**2 == pytest.approx(_AREAS[shape], rel=0.01)


def test_triangle_and_star_point_up() -> None:
    for shape in ("triangle", "star"):
        x, above, below = np.zeros((1, 1), np.float32), np.full((1, 1), -1.05), np.full((1, 1), 1.05)
        assert inside_shape(shape, x, above.astype(np.float32)).all()
        assert not inside_shape(shape, x, below.astype(np.float32)).any()


def test_a_large_square_covers_exactly_its_pixels() -> None:
    scene = Scene((SceneObject("square", "red", "large", 4, (0.2, 0.2)),), "black")
    pixels = np.asarray(picture_of(scene))
    assert (pixels[26:39, 26:39] == (220, 40, 40)).all()
    assert (pixels[:24] == 15).all()
    assert (pixels[:, 41:] == 15).all()


def test_larger_pictures_show_the_same_scene() -> None:
    scene = draw_scene(3)
    plain = Scene(scene.objects, scene.background)
    small, large = (np.asarray(picture_of(plain, scale), np.float32) for scale in (1, 2))
    halved = large.reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(halved - small).max() < 50
    assert np.abs(halved - small).mean() < 0.3


def test_noise_is_as_strong_as_the_scene_says_and_repeats() -> None:
    scene = Scene((), "gray", noise_sigma=3.0, noise_seed=5)
    pixels = draw_scenes([scene, scene])
    assert (pixels[0] == pixels[1]).all()
    assert pixels[0].std() == pytest.approx(3.0, rel=0.05)


def test_pictures_are_written_as_png_or_jpeg() -> None:
    picture = picture_of(draw_scene(1))
    png, jpeg = encode_picture(picture), encode_picture(picture, 80)
    assert (np.asarray(Image.open(io.BytesIO(png))) == np.asarray(picture)).all()
    assert Image.open(io.BytesIO(jpeg)).format == "JPEG"


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="no such shape: 'blob'"):
        inside_shape("blob", np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32))
