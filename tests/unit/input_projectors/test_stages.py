from __future__ import annotations

from typing import Any

import pytest
import torch

from services.input_projectors.stages import Stages, concat_adjacent, mean_pool, space_to_depth

WATCH_IN = [{"space_to_depth": 2}, {"add_time_positions": 64}, {"mean_pool": 9}, {"concat_items": 1}]


def test_space_to_depth_joins_neighborhoods() -> None:
    raster = torch.arange(16.0).reshape(1, 16, 1)
    expected = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert space_to_depth(raster, 2)[0].tolist() == expected
    assert space_to_depth(torch.stack([raster, raster + 16], dim=1), 2)[0, 0].tolist() == expected
    assert concat_adjacent(raster, 4)[0, 1].tolist() == [4, 5, 6, 7]


def test_mean_pool_takes_means_of_neighbors() -> None:
    assert mean_pool(torch.tensor([[[1.0, 10], [3, 30], [5, 50], [7, 70]]]), 2).tolist() == [[[2, 20], [6, 60]]]
    with pytest.raises(ValueError, match="mean_pool 3: 4 tokens"):
        mean_pool(torch.zeros(1, 4, 2), 3)


def test_stages_say_how_many_tokens_come_out() -> None:
    stages = Stages([{"space_to_depth": 2}, {"concat_adjacent": 3}], 5)
    assert stages.shape_for(36) == (1, 3)
    assert stages.shape_for(36, 7) == (7, 3)
    assert stages.output_width == 60
    assert stages(torch.zeros(1, 36, 5)).shape == (1, 3, 60)
    assert stages(torch.zeros(2, 7, 36, 5)).shape == (2, 7, 3, 60)
    with pytest.raises(ValueError, match="do not divide"):
        stages.shape_for(35)
    with pytest.raises(ValueError, match="no square raster"):
        space_to_depth(torch.zeros(1, 35, 5), 2)


def test_a_film_becomes_one_row_of_tokens_that_know_their_frame() -> None:
    torch.manual_seed(0)
    stages = Stages(WATCH_IN, 3)
    film = torch.randn(2, 8, 36, 3)
    assert stages.shape_for(36, 8) == (1, 8)
    shaped = stages(film)
    assert shaped.shape == (2, 1, 8, 12)
    assert stages.time_positions is not None
    expected = space_to_depth(film, 2).mean(2) + stages.time_positions[:8]
    torch.testing.assert_close(shaped[:, 0], expected)


def test_a_picture_is_a_film_of_one_frame() -> None:
    torch.manual_seed(0)
    stages = Stages(WATCH_IN, 3)
    pictures = torch.randn(4, 36, 3)
    torch.testing.assert_close(stages(pictures), stages(pictures[:, None])[:, 0])


def test_stages_go_on_behind_joined_frames() -> None:
    stages = Stages([{"concat_items": 1}, {"concat_adjacent": 2}], 1)
    film = torch.arange(6.0).reshape(1, 2, 3, 1)
    assert stages(film)[0, 0].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert stages.shape_for(3, 2) == (1, 3)


def test_time_positions_learn() -> None:
    stages = Stages([{"add_time_positions": 4}], 2)
    stages(torch.zeros(1, 3, 5, 2)).sum().backward()
    assert stages.time_positions is not None
    assert stages.time_positions.grad is not None
    assert stages.time_positions.grad[:, 0].tolist() == [5, 5, 5, 0]


@pytest.mark.parametrize(
    ("stages", "complaint"),
    [
        ([{"fold": 2}], r"stages\[0\]: fold: 2"),
        ([{"mean_pool": 2}, {"mean_pool": 0}], r"stages\[1\]: mean_pool: 0"),
        ([{"mean_pool": 2.0}], "mean_pool: 2.0"),
        ([{"concat_items": 2}], "from 1 to 1"),
        ([{"add_time_positions": 10**9}], "from 1 to 4096"),
        ([{"concat_items": 1}, {"add_time_positions": 8}], "before concat_items"),
        ([{"add_time_positions": 8}, {"add_time_positions": 8}], "once"),
    ],
)
def test_wrong_stages_are_named(stages: list[dict[str, Any]], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Stages(stages, 4)


def test_more_frames_than_positions_are_refused() -> None:
    stages = Stages([{"add_time_positions": 2}], 1)
    with pytest.raises(ValueError, match="3 frames, at most 2"):
        stages(torch.zeros(1, 3, 4, 1))
    with pytest.raises(ValueError, match="3 frames, at most 2"):
        stages.shape_for(4, 3)
