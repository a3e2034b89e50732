"""Routing: which token belongs to whom."""

import pickle

import pytest
import torch

from omnicompose.errors import ModelInputError, PlanError
from omnicompose.streams import (
    DecoupledLinear,
    RoutingSlot,
    StreamSpec,
    decouple,
    make_routing,
)
from omnicompose.streams.rows import Rows, stretch_of


def test_indices_are_positions_of_the_flattened_batch():
    routing = make_routing(torch.tensor([[0, 1, 1, 0], [3, 0, 1, 0]]))
    assert routing.num_tokens == 8
    assert {name: index.tolist() for name, index in routing.tokens.items()} == {
        "text": [0, 3, 5, 7],
        "image": [1, 2, 6],
        "audio": [4],
    }
    assert {
        name: rows.index.tolist() for name, rows in routing.visits(("image", "video")).items()
    } == {"image": [1, 2, 6]}
    assert routing.outside(("image", "video"), ("image",)).tolist() == [0, 3, 4, 5, 7]
    assert routing.on(torch.device("cpu")) is routing


def test_media_without_text_and_text_without_media():
    only_media = make_routing(torch.tensor([[2, 2]]))
    assert only_media.tokens["text"].numel() == 0
    assert make_routing(torch.zeros(1, 3, dtype=torch.long)) is None


def test_unknown_type_is_refused():
    with pytest.raises(ModelInputError, match=r"found \[9\], expected values among"):
        make_routing(torch.tensor([[0, 9]]))


def test_slot_pickles_empty():
    slot = RoutingSlot()
    with slot.using(make_routing(torch.tensor([[1]]))):
        assert pickle.loads(pickle.dumps(slot)).routing is None


def two_layers() -> torch.nn.Module:
    model = torch.nn.Module()
    model.layers = torch.nn.ModuleList(torch.nn.Module() for _ in range(2))
    for layer in model.layers:
        layer.q_proj = torch.nn.Linear(3, 3)
        layer.up_proj = torch.nn.Linear(3, 3)
    return model


def test_roles_and_layers_choose():
    model = two_layers()
    decouple(model, {"image": StreamSpec(form="dense", roles=("q_proj",), layers=(1,))})
    changed = [name for name, m in model.named_modules() if isinstance(m, DecoupledLinear)]
    assert changed == ["layers.1.q_proj"]


def test_roles_and_layers_must_exist():
    with pytest.raises(PlanError, match=r"norm for k_proj.*roles among \['q_proj', 'up"):
        decouple(two_layers(), {"image": StreamSpec(form="dense", roles=("q_proj", "k_proj"))})
    with pytest.raises(PlanError, match="no linear layer or norm for layer 7"):
        decouple(
            two_layers(), {"image": StreamSpec(form="dense", roles=("q_proj",), layers=(0, 7))}
        )


def test_stream_names_must_be_modalities():
    with pytest.raises(PlanError, match="stream 'smell'"):
        decouple(two_layers(), {"smell": StreamSpec(form="dense", roles=("q_proj",))})
    with pytest.raises(PlanError, match="stream 'text' of form 'dense'"):
        decouple(two_layers(), {"text": StreamSpec(form="dense", roles=("q_proj",))})


def test_spec_comes_from_json_and_is_checked():
    spec = StreamSpec.from_config({"form": "factored", "rank": 2, "roles": ["q_proj"]})
    assert spec == StreamSpec(form="factored", rank=2, roles=("q_proj",), layers=None)
    with pytest.raises(PlanError, match="found rank None, expected a positive rank"):
        StreamSpec.from_config({"form": "factored"})
    with pytest.raises(PlanError, match="found 'sparse'"):
        StreamSpec.from_config({"form": "sparse"})


def test_decoupling_works_on_the_meta_device():
    with torch.device("meta"):
        model = two_layers()
        decouple(model, {"image": StreamSpec(form="factored", rank=2, roles=("q_proj", "up_proj"))})
    assert {p.device.type for p in model.parameters()} == {"meta"}


def test_rows_in_one_stretch_are_taken_put_and_added_as_scattered_ones_are():
    values = torch.arange(12.0).view(6, 2)
    index = torch.tensor([2, 3, 4])
    stretch = stretch_of(index)
    assert stretch == slice(2, 5)
    assert stretch_of(torch.tensor([1, 3])) is None
    assert stretch_of(index[:0]) is None
    together, scattered = Rows(index=index, stretch=stretch), Rows(index=index)
    assert together.take(values).data_ptr() == values[2].data_ptr()
    assert torch.equal(together.take(values), scattered.take(values))
    for change in ("put", "add"):
        results = [values.clone(), values.clone()]
        for rows, result in zip((together, scattered), results, strict=True):
            getattr(rows, change)(result, torch.full((3, 2), 7.0))
        assert torch.equal(*results)


def test_a_modality_in_one_stretch_is_routed_as_a_slice():
    routing = make_routing(torch.tensor([[0, 1, 1, 0, 2, 0, 2, 0]]))
    visits = routing.visits(("image", "video"))
    assert visits["image"].stretch == slice(1, 3)
    assert visits["video"].stretch is None
    two_rows = make_routing(torch.tensor([[0, 1, 1], [1, 0, 0]]))
    assert two_rows.visits(("image",))["image"].stretch == slice(1, 4)
