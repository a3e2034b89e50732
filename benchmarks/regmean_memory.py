"""RegMean on models of half a billion weights: memory of collecting and of merging.

    python benchmarks/regmean_memory.py [--layers 24] [--examples 4] [--tokens 128]

Random models in the shape of Qwen2.5-0.5B (24 blocks of width 896, feed-forward 4864, 151936
words, tied) are written in bf16, two experts, no base. `omnicompose collect` and `merge` run
as programs of their own on two threads; the peak is what the operating system counted for each
(resident memory, files mapped into it included). The limit is 4 GiB.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file

LIMIT_BYTES = 4 * 1024**3
WIDTH, INNER, WORDS, HEADS, KV_HEADS = 896, 4864, 151936, 14, 2
MEASURE = """
import resource, subprocess, sys, json
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(json.dumps({"code": done.returncode, "peak": peak, "said": done.stderr[-2000:]}))
"""


def shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """Every tensor of the model."""
    head = WIDTH // HEADS
    block = {
        "self_attn.q_proj.weight": (WIDTH, WIDTH),
        "self_attn.q_proj.bias": (WIDTH,),
        "self_attn.k_proj.weight": (KV_HEADS * head, WIDTH),
        "self_attn.k_proj.bias": (KV_HEADS * head,),
        "self_attn.v_proj.weight": (KV_HEADS * head, WIDTH),
        "self_attn.v_proj.bias": (KV_HEADS * head,),
        "self_attn.o_proj.weight": (WIDTH, WIDTH),
        "mlp.gate_proj.weight": (INNER, WIDTH),
        "mlp.up_proj.weight": (INNER, WIDTH),
        "mlp.down_proj.weight": (WIDTH, INNER),
        "input_layernorm.weight": (WIDTH,),
        "post_attention_layernorm.weight": (WIDTH,),
    }
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (WORDS, WIDTH)}
    for layer in range(layers):
        found |= {f"model.layers.{layer}.{name}": shape for name, shape in block.items()}
    return found | {"model.norm.weight": (WIDTH,)}


def write_model(folder: Path, layers: int, seed: int) -> None:
    """Random weights, configuration and a tokenizer of numbers."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.ones(shape, dtype=torch.bfloat16)
        if len(shape) == 1
        else (torch.randn(shape, generator=generator) * 0.02).bfloat16()
        for name, shape in shapes(layers).items()
    }
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "vocab_size": WORDS,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "tie_word_embeddings": True,
        "dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    words = Tokenizer(models.WordLevel({str(i): i for i in range(1000)}, unk_token="0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="0").save_pretrained(folder)


def write_data(path: Path, examples: int, tokens: int, seed: int) -> None:
    """Random words."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(1, 1000, (examples, tokens), generator=generator).tolist()
    lines = (json.dumps({"text": " ".join(map(str, row))}) for row in rows)
    path.write_text("\n".join(lines) + "\n")


def measured(*command: str) -> tuple[int, float]:
    """Peak bytes and seconds of a program."""
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    program = [sys.executable, "-c", MEASURE, sys.executable, "-m", "omnicompose", *command]
    started = time.perf_counter()
    done = subprocess.run(program, capture_output=True, text=True, env=environment, check=True)
    found = json.loads(done.stdout)
    if found["code"]:
        raise SystemExit(found["said"])
    return found["peak"], time.perf_counter() - started


def run(folder: Path, layers: int, examples: int, tokens: int) -> dict[str, tuple[int, float]]:
    """Collect on two models, then merge them."""
    found = {}
    for number in (1, 2):
        write_model(folder / f"m{number}", layers, number)
        write_data(folder / f"d{number}.jsonl", examples, tokens, number)
        out = folder / f"s{number}.safetensors"
        found[f"collect {number}"] = measured(
            "collect", f"{folder}/m{number}", "--data", f"{folder}/d{number}.jsonl",
            "--what", "gram", "--out", str(out),
        )  # fmt: skip
    entries = "".join(f"\n  - {{source: m{i}, statistics: s{i}.safetensors}}" for i in (1, 2))
    (folder / "recipe.yaml").write_text(f"method: regmean\nmodels:{entries}\n")
    found["merge"] = measured("merge", f"{folder}/recipe.yaml", "--out", f"{folder}/out")
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--examples", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--folder", type=Path, default=None, help="where the models lie meanwhile")
    given = parser.parse_args()
    with TemporaryDirectory(dir=given.folder) as folder:
        found = run(Path(folder), given.layers, given.examples, given.tokens)
    print(f"{'step':<12}{'peak':>12}{'of 4 GiB':>10}{'seconds':>10}")
    for step, (peak, seconds) in found.items():
        print(f"{step:<12}{peak / 2**20:>8.0f} MiB{peak / LIMIT_BYTES:>10.2f}{seconds:>10.1f}")
    rows = {step: {"peak_bytes": p, "seconds": round(s, 1)} for step, (p, s) in found.items()}
    print(json.dumps({"layers": given.layers, "limit_bytes": LIMIT_BYTES, "steps": rows}))


if __name__ == "__main__":
    main()
