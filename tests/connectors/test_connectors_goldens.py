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
