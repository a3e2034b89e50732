"""Connectors against the outputs of the published implementation (tests/goldens/parity)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from omnicompose.connectors import make_connector
from omnicompose.experts import modelcompose_names as names

PARITY = Path(__file__).parents[1] / "goldens" / "parity"
SIZES = {"input_size": 20, "output_size": 48}
QFORMER = SIZES | {"hidden_size": 24, "num_heads": 3, "intermediate_size": 48}
QFORMER |= {"max_positions": 1024}
CASES = {
    "identity": ("identity", {}, ()),
    "linear": ("linear", SIZES, names.LINEAR),
    "mlp2x_gelu": ("mlp", SIZES, names.mlp(2)),
    "mlp3x_gelu": ("mlp", SIZES | {"num_layers": 3}, names.mlp(3)),
    "qformer_4N_2L": ("qformer", QFORMER | {"num_queries": 4, "num_layers": 2}, names.QFORMER),
    "qformer_6N_1L": ("qformer", QFORMER | {"num_queries": 6, "num_layers": 1}, names.QFORMER),
}


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_outputs_of_the_published_projectors(name) -> None:
    kind, config, table = CASES[name]
    golden = load_file(PARITY / f"projector_{name}.safetensors")
    state = {k.removeprefix("weights."): v for k, v in golden.items() if k.startswith("weights.")}
    connector = make_connector({"type": kind, "config": config}).eval()
    renamed = names.rename(state, table, name)
    connector.load_state_dict({new: state[old] for new, old in renamed.items()})
    output = connector(golden["input"])
    torch.testing.assert_close(output, golden["output"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "config", "count"),
    [
        ("mlp", {"input_size": 1024, "output_size": 4096}, 20_979_712),
        ("mlp", {"input_size": 384, "output_size": 4096}, 18_358_272),
        (
            "qformer",
            {"input_size": 768, "output_size": 4096, "num_queries": 32, "num_layers": 2}
            | {"max_positions": 1024},
            22_865_920,
        ),
    ],
)
def test_published_connectors_have_the_published_sizes(kind, config, count) -> None:
    """Specification of ModelCompose, section 3.1: vision and video, point, audio."""
    with torch.device("meta"):
        connector = make_connector({"type": kind, "config": config})
    assert sum(parameter.numel() for parameter in connector.parameters()) == count
