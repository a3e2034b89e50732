"""Three rows of positions: text as ever, media where their family puts them."""

import pytest
import torch

from omnicompose.errors import ModelInputError
from omnicompose.modeling.positions import (
    ThreePositions,
    join_places,
    lay_out,
    line_of_places,
    places_of,
)
from omnicompose.modeling.router import EmbeddedMedia

NOTHING = EmbeddedMedia(embeddings={}, places={})
GRID = torch.tensor([[0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0]])


def test_text_alone_counts_up_and_padding_stands_at_zero() -> None:
    types = torch.zeros(2, 4, dtype=torch.int64)
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    positions = ThreePositions().count(types, mask, NOTHING, 0)
    assert positions.tolist() == [[[0, 1, 2, 3], [0, 0, 0, 1]]] * 3


def test_a_grid_takes_as_many_positions_as_its_longer_side() -> None:
    types = torch.tensor([[0, 1, 1, 1, 1, 0]])
    media = EmbeddedMedia(embeddings={"image": torch.zeros(4, 2)}, places={"image": GRID})
    positions = ThreePositions().count(types, None, media, 0)
    assert positions[:, 0].tolist() == [
        [0, 1, 1, 1, 1, 3],
        [0, 1, 1, 2, 2, 3],
        [0, 1, 2, 1, 2, 3],
    ]


def test_media_of_ordinary_experts_stand_like_words() -> None:
    types = torch.tensor([[3, 3, 0, 3]])
    places = join_places([line_of_places(2, types.device), line_of_places(1, types.device)])
    media = EmbeddedMedia(embeddings={"audio": torch.zeros(3, 2)}, places={"audio": places})
    assert ThreePositions().count(types, None, media, 0)[0, 0].tolist() == [0, 1, 2, 3]


def test_two_grids_side_by_side_are_two_runs() -> None:
    types = torch.ones(1, 8, dtype=torch.int64)
    places = join_places([GRID, GRID])
    rows = lay_out(types, types.bool(), {"image": places}, torch.tensor([0]))
    assert rows[1, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_steps_after_a_prompt_go_on_where_it_ended() -> None:
    counter = ThreePositions()
    media = EmbeddedMedia(embeddings={"image": torch.zeros(4, 2)}, places={"image": GRID})
    counter.count(torch.tensor([[0, 1, 1, 1, 1, 0]]), None, media, 0)
    step = counter.count(torch.zeros(1, 1, dtype=torch.int64), None, NOTHING, 6)
    assert step.flatten().tolist() == [4, 4, 4]


def test_places_of_runs_between_words() -> None:
    is_media = torch.tensor([False, True, True, False, True])
    assert places_of(is_media, None).tolist() == [[0, 1, 0]] * 3 + [[0, 0, 1]]
    own = torch.tensor([[0, 1, 1, 3, 4], [0, 1, 2, 3, 4], [0, 1, 1, 3, 4]])[:, None]
    assert places_of(is_media, own).tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]]


def test_embeddings_without_places_are_refused() -> None:
    media = EmbeddedMedia(embeddings={"image": torch.zeros(4, 2)}, places={})
    with pytest.raises(ModelInputError, match="media_embeds of image came without position_ids"):
        ThreePositions().count(torch.ones(1, 4, dtype=torch.int64), None, media, 0)
