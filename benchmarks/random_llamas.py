"""Random Llama-shaped checkpoints of any size, for `merge_speed.py`."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

POOL_ELEMENTS = 1 << 24
SHARD_BYTES = 1 << 30
SCALES: Mapping[str, tuple[int, int, int, int]] = {
    "tiny": (256, 4, 704, 4000),
    "small": (1024, 8, 2816, 32_000),
    "1b": (2048, 16, 5632 + 1408, 32_000),
    "7b": (4096, 32, 11_008, 32_000),
}
"""Hidden size, blocks, MLP size, vocabulary."""


def shapes(scale: str) -> dict[str, tuple[int, ...]]:
    """Tensors of a Llama without grouped attention, in file order."""
    hidden, blocks, inner, vocabulary = SCALES[scale]
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for block in range(blocks):
        prefix = f"model.layers.{block}"
        found |= {f"{prefix}.self_attn.{name}_proj.weight": (hidden, hidden) for name in "qkvo"}
        found |= {f"{prefix}.mlp.{name}_proj.weight": (inner, hidden) for name in ("gate", "up")}
        found[f"{prefix}.mlp.down_proj.weight"] = (hidden, inner)
        found[f"{prefix}.input_layernorm.weight"] = (hidden,)
        found[f"{prefix}.post_attention_layernorm.weight"] = (hidden,)
    return found | {"model.norm.weight": (hidden,), "lm_head.weight": (vocabulary, hidden)}


def write_models(folder: Path, scale: str, *, link_last: bool = False) -> list[Path]:
    """m0 random, m1 and m2 = m0 + small noise; written by our own layout, tensor by tensor.

    With `link_last` m2 is m1 once more, for a disk without room for both.
    """
    import torch

    from omnicompose.tensors.layout import make_layout
    from omnicompose.tensors.source import TensorInfo

    infos = [TensorInfo(name=n, dtype=torch.bfloat16, shape=s) for n, s in shapes(scale).items()]
    layout = make_layout(infos, SHARD_BYTES)
    sizes = {info.name: info.num_bytes for info in infos}
    paths = [folder / f"m{number}" for number in range(3)]
    for path, pool in zip(paths, pools(), strict=True):
        if link_last and path == paths[-1]:
            shutil.copytree(paths[-2], path, copy_function=os.link)
            continue
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.json").write_text(json.dumps(config(scale)))
        if layout.index is not None:
            (path / "model.safetensors.index.json").write_text(layout.index)
        for file in layout.files:
            with (path / file.name).open("wb") as output:
                output.write(file.header)
                for name in file.offsets:
                    write_repeated(output, pool, sizes[name])
    return paths


def pools() -> list[memoryview]:
    """Numbers of each model, enough for a large tensor; drawing all of them would take minutes."""
    import torch

    from omnicompose.tensors.source import tensor_bytes

    base = torch.randn(POOL_ELEMENTS) * 0.02
    tuned = [base + torch.randn_like(base) * 0.002 for _ in range(2)]
    return [tensor_bytes(numbers.bfloat16()) for numbers in (base, *tuned)]


def write_repeated(output: BinaryIO, pool: memoryview, num_bytes: int) -> None:
    """So many bytes of a pool, from its start again and again."""
    for start in range(0, num_bytes, len(pool)):
        output.write(pool[: min(len(pool), num_bytes - start)])


def config(scale: str) -> dict[str, object]:
    """What mergekit needs to know of the models."""
    hidden, blocks, inner, vocabulary = SCALES[scale]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": blocks,
        "num_attention_heads": hidden // 64,
        "num_key_value_heads": hidden // 64,
        "vocab_size": vocabulary,
        "dtype": "bfloat16",
        "tie_word_embeddings": False,
    }
