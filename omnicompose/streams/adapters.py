"""Adapters of peft on top of decoupled layers: they run right, but not every one can be merged.

An adapter on a decoupled layer adds to the outputs of all tokens. Merged into the text weight it
would reach the tokens of a factored stream too, whose result is added to the text's, but not those
of a dense or masked stream, whose weight stands instead of it. Such a merge would change what the
model says without a word, so it is refused.
"""

from functools import partial

from torch import nn

from omnicompose.errors import ModelInputError
from omnicompose.streams.linear import DecoupledLinear


def refuse_merging(model: nn.Module) -> None:
    """Let the adapters that would be merged wrongly say so when somebody tries.

    Args:
        model: after peft has put its layers in place.
    """
    for path, module in model.named_modules():
        base = getattr(module, "base_layer", None)
        if isinstance(base, DecoupledLinear):
            names = [name for name, stream in base.streams.items() if stream.replaces]
            if names:
                # An attribute of this one layer goes before its class's method.
                module.merge = partial(_refuse, path, ", ".join(names))


def _refuse(path: str, names: str, *_arguments: object, **_options: object) -> None:
    raise ModelInputError(
        f"{path}: the adapter cannot be merged: the tokens of {names} have weights of their own "
        "here, which a merge into the text weight would not reach. Keep the adapter beside the "
        "model (`save_pretrained` of the PeftModel), or compose with `storage: factored` streams."
    )
