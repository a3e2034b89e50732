"""What decoupled streams cost: prefill and decode beside the plain backbone and all branches.

    python benchmarks/streams.py [--device cuda --dtype bfloat16] [--num-layers 16] [--repeats 3]

A random Llama of about 0.55 billion parameters, three modalities with 600 + 32 + 1,000 tokens and
100 text tokens; four streams. Compared in one run, interleaved, by median of each round's ratio:

plain         the backbone without streams
factored      experts of rank 128: each correction has rank 128 + 3 x 128
dense         each modality has matrices of its own
all branches  every stream's product for every token, then a choice by mask, as published code does

Limits (issue 4): decode 1.02; prefill with dense streams 1.10; with factors 1.10 times what their
FLOPs predict; 1.8 times faster than all branches. The last line is the same figures as JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from omnicompose.streams import (
    LINEAR_ROLES,
    DecoupledLinear,
    Routing,
    RoutingSlot,
    StreamSpec,
    decouple,
    make_routing,
)

TOKENS = {"image": 600, "audio": 32, "video": 1000}
TYPE_IDS = {"image": 1, "audio": 3, "video": 2}
NUM_TEXT_TOKENS = 100
EXPERT_RANK = 128
NUM_DECODED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A model to be timed; `slot` is None for one without streams."""

    name: str
    model: LlamaForCausalLM
    slot: RoutingSlot | None
    stream_bytes: int


class AllBranches(nn.Module):
    """The decoupled layer as published: every branch for every token, chosen by mask."""

    def __init__(self, layer: DecoupledLinear) -> None:
        """Evaluate the streams of `layer`."""
        super().__init__()
        self.layer = layer

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Outputs `[..., out]` of tokens `[..., in]`."""
        routing = self.layer.slot.routing
        output = nn.functional.linear(hidden, self.layer.weight)
        if routing is None:
            return output
        chosen = output
        for name, stream in self.layer.streams.items():
            branch = stream(hidden) if stream.replaces else output + stream(hidden)
            mask = torch.zeros(routing.num_tokens, dtype=torch.bool, device=hidden.device)
            mask[routing.tokens[name]] = True
            chosen = torch.where(mask.view(*hidden.shape[:-1], 1), branch, chosen)
        return chosen


def make_contender(name: str, plain: LlamaForCausalLM, form: str | None) -> Contender:
    """A model that shares the plain one's weights and has random streams of its own."""
    model = copy_sharing_weights(plain)
    if form is None:
        return Contender(name=name, model=model, slot=None, stream_bytes=0)
    rank = EXPERT_RANK * (1 + len(TOKENS)) if form == "factored" else None
    slot = decouple(model, dict.fromkeys(TOKENS, StreamSpec(form=form, rank=rank)))
    layers = [m for m in model.modules() if isinstance(m, DecoupledLinear)]
    num_bytes = sum(p.nbytes for layer in layers for p in layer.streams.parameters())
    return Contender(name=name, model=model, slot=slot, stream_bytes=num_bytes)


def make_all_branches(routed: Contender, plain: LlamaForCausalLM) -> Contender:
    """A model that shares weights and streams with a routed one and evaluates them all."""
    model = copy_sharing_weights(plain)
    for path, layer in routed.model.named_modules():
        if isinstance(layer, DecoupledLinear):
            parent, _, attribute = path.rpartition(".")
            setattr(model.get_submodule(parent), attribute, AllBranches(layer))
    name = f"all branches, {routed.name}"
    return Contender(name=name, model=model, slot=routed.slot, stream_bytes=routed.stream_bytes)


def copy_sharing_weights(plain: LlamaForCausalLM) -> LlamaForCausalLM:
    """The same model made of other modules."""
    with torch.device("meta"):
        model = LlamaForCausalLM(plain.config).to(plain.dtype)
    model.load_state_dict(plain.state_dict(), assign=True)
    model.model.rotary_emb = plain.model.rotary_emb
    return model.eval()


def make_types(device: str, tokens: Mapping[str, int] = TOKENS) -> torch.Tensor:
    """Token types `[1, L]`: text around and between the media."""
    parts = [torch.zeros(NUM_TEXT_TOKENS // 4, dtype=torch.long)]
    for name, count in tokens.items():
        parts += [torch.full((count,), TYPE_IDS[name]), parts[0]]
    return torch.cat(parts)[None].to(device)


def prefill(contender: Contender, embeds: torch.Tensor, routing: Routing) -> DynamicCache:
    """One prefill of all tokens; the cache it leaves."""
    with contender.slot.using(routing) if contender.slot else nullcontext():
        cache = DynamicCache(config=contender.model.config)
        contender.model(inputs_embeds=embeds, past_key_values=cache, logits_to_keep=1)
    return cache


def decode(contender: Contender, cache: DynamicCache) -> None:
    """A few steps of one token each; the cache is cut back afterwards."""
    token = torch.ones(1, 1, dtype=torch.long, device=contender.model.device)
    for _ in range(NUM_DECODED):
        contender.model(input_ids=token, past_key_values=cache)
    cache.crop(-NUM_DECODED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds of one action, and its share of the first action's in the same round; medians."""

    seconds: float
    ratio: float


def time_interleaved(actions: Sequence[Callable[[], object]], repeats: int) -> list[Timing]:
    """Time all actions once per round, so that other load on the machine hits all alike."""
    seconds: list[list[float]] = [[] for _ in actions]
    for _ in range(repeats):
        for action, found in zip(actions, seconds, strict=True):
            start = time.perf_counter()
            action()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            found.append(time.perf_counter() - start)
    return [
        Timing(
            seconds=statistics.median(times),
            ratio=statistics.median(t / first for t, first in zip(times, seconds[0], strict=True)),
        )
        for times in seconds
    ]


def predicted_ratio(config: LlamaConfig, rank: int) -> float:
    """Prefill FLOPs with factored streams over those of the plain backbone."""
    length = NUM_TEXT_TOKENS + sum(TOKENS.values())
    wide, inner = config.hidden_size, config.intermediate_size
    kv = config.num_key_value_heads * config.head_dim
    shapes = [(wide, wide)] * 2 + [(wide, kv)] * 2 + [(wide, inner)] * 3
    linear = length * sum(a * b for a, b in shapes)
    attention = length * length * wide  # causal: half of two products of L x L x D
    factors = sum(TOKENS.values()) * rank * sum(a + b for a, b in shapes)
    return 1 + factors / (linear + attention)


def run(options: argparse.Namespace) -> dict[str, float]:
    """Time everything and print the table."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=options.hidden_size,
        intermediate_size=options.hidden_size * 8 // 3 // 64 * 64,
        num_hidden_layers=options.num_layers,
        num_attention_heads=options.hidden_size // 64,
        num_key_value_heads=options.hidden_size // 64,
    )
    with torch.device(options.device):
        plain = LlamaForCausalLM(config).to(getattr(torch, options.dtype)).eval()
    routed = [make_contender(form, plain, form) for form in ("factored", "dense")]
    contenders = [make_contender("plain", plain, None), *routed]
    contenders += [make_all_branches(contender, plain) for contender in routed]
    caches: dict[str, DynamicCache] = {}

    def fill(contender: Contender, types: torch.Tensor) -> None:
        shape = (*types.shape, config.hidden_size)
        embeds = torch.randn(shape, device=options.device, dtype=plain.dtype)
        caches[contender.name] = prefill(contender, embeds, make_routing(types))

    few, all_tokens = (
        make_types(options.device, dict.fromkeys(TOKENS, 8)),
        make_types(options.device),
    )
    for contender in contenders:
        fill(contender, few)
        decode(contender, caches[contender.name])
    prefills = time_interleaved(
        [lambda c=c: fill(c, all_tokens) for c in contenders], options.repeats
    )
    decodes = time_interleaved(
        [lambda c=c: decode(c, caches[c.name]) for c in contenders], options.repeats * 4
    )
    return report(contenders, prefills, decodes, config)


def report(
    contenders: Sequence[Contender],
    prefills: Sequence[Timing],
    decodes: Sequence[Timing],
    config: LlamaConfig,
) -> dict[str, float]:
    """Print the table; return the figures of the last line."""
    num_parameters = sum(p.numel() for p in contenders[0].model.parameters())
    print(f"Llama of {num_parameters / 1e9:.2f}e9 parameters, roles {', '.join(LINEAR_ROLES)}")
    print(f"{'':24}{'prefill s':>11}{'/ plain':>9}{'decode s':>11}{'/ plain':>9}{'streams GB':>12}")
    for contender, first, step in zip(contenders, prefills, decodes, strict=True):
        step_s = step.seconds / NUM_DECODED
        ratios = f"{first.seconds:11.3f}{first.ratio:9.3f}{step_s:11.4f}{step.ratio:9.3f}"
        print(f"{contender.name:24}{ratios}{contender.stream_bytes / 1e9:12.2f}")
    predicted = predicted_ratio(config, EXPERT_RANK * (1 + len(TOKENS)))
    factored = prefills[1].ratio
    print(f"FLOPs predict {predicted:.3f} for factored streams; limits 1.02, 1.10, 1.10, 1.8")
    return {
        "decode_ratio": max(decodes[1].ratio, decodes[2].ratio),
        "prefill_dense_ratio": prefills[2].ratio,
        "prefill_factored_ratio": factored / predicted,
        "all_branches_speedup": prefills[4].seconds / prefills[2].seconds,
        "prefill_factored_over_plain": factored,
        "prefill_factored_predicted": predicted,
        "all_branches_factored_speedup": prefills[3].seconds / prefills[1].seconds,
        "factored_stream_bytes": contenders[1].stream_bytes,
        "dense_stream_bytes": contenders[2].stream_bytes,
    }


def main() -> None:
    """Parse the options and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--num-layers", type=int, default=16)
    parser.add_argument("--hidden-size", type=int, default=1536)
    parser.add_argument("--repeats", type=int, default=3)
    with torch.inference_mode():
        figures = run(parser.parse_args())
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
