"""Diagonal Fisher information, one part of the model at a time.

    sum over examples of (d/dW sum_t log p(y_t | x_<t))^2          y_t drawn from p, or given

The gradient with regard to a block's input is all that the block before it needs, so that weights
and gradients of one block are held at a time; every example by itself, because the square of a
batch's gradient is no Fisher information.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from omnicompose.statistics.encoding import Example
from omnicompose.statistics.stages import Surroundings, logits_of, run_block
from omnicompose.statistics.subject import Subject
from omnicompose.statistics.workplace import Workplace

Squares = dict[str, torch.Tensor]


def head_squares(
    subject: Subject, examples: Sequence[Example], place: Workplace, *, sampled: bool, seed: int
) -> Squares:
    """Final norm and head; leaves the gradients with regard to the last block's output."""
    last = len(subject.blocks)
    with _learning(subject, _head_prefixes(subject)) as learned:
        squares = {name: torch.zeros_like(one) for name, one in learned.items()}
        for number, example in enumerate(examples):
            state = place.read(last, number).requires_grad_()
            log_p = logits_of(subject, state).log_softmax(-1)[0]
            drawn = _generator(seed, number) if sampled else None
            torch.autograd.backward(_objective(log_p, example, drawn))
            assert state.grad is not None
            place.write_slope(last, number, state.grad)
            _add_squares(squares, learned)
    return squares


def block_squares(
    subject: Subject, block: int, surroundings: Sequence[Surroundings], place: Workplace
) -> Squares:
    """One block; leaves the gradients with regard to its input."""
    prefix = subject.path_of(subject.blocks[block])
    with _learning(subject, (prefix,)) as learned:
        squares = {name: torch.zeros_like(one) for name, one in learned.items()}
        for number, around in enumerate(surroundings):
            state = place.read(block, number).requires_grad_()
            made = run_block(subject, block, state, around)
            torch.autograd.backward(made, place.read_slope(block + 1, number))
            assert state.grad is not None
            place.write_slope(block, number, state.grad)
            _add_squares(squares, learned)
    return squares


def _head_prefixes(subject: Subject) -> tuple[str, ...]:
    norm = subject.decoder.norm
    assert isinstance(norm, nn.Module)
    head = subject.model.get_output_embeddings()
    return (subject.path_of(norm), subject.path_of(head))


@contextmanager
def _learning(subject: Subject, prefixes: tuple[str, ...]) -> Iterator[Mapping[str, nn.Parameter]]:
    """Parameters of the backbone under some prefixes, by their names there, with gradients.

    A head that is tied to the embeddings has no gradient of its own and is left out.
    """
    tied = set(subject.model.all_tied_weights_keys)
    with subject.holding(prefixes):
        learned = {
            subject.names[path]: parameter
            for path, parameter in subject.model.named_parameters()
            if path.startswith(prefixes) and path in subject.names and path not in tied
        }
        for parameter in learned.values():
            parameter.requires_grad_()
        with torch.enable_grad():
            yield learned


def _objective(
    log_p: torch.Tensor, example: Example, generator: torch.Generator | None
) -> torch.Tensor:
    """Log-likelihood of the next tokens that count, `[L, words]` given."""
    first = 0 if example.reply_from is None else example.reply_from - 1
    if generator is not None:
        words = torch.multinomial(log_p.detach().exp(), 1, generator=generator)[first:]
        return log_p[first:].gather(1, words).sum()
    words = example.inputs["input_ids"][0, first + 1 :, None]
    return log_p[first:-1].gather(1, words).sum()


def _generator(seed: int, number: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + number)


def _add_squares(squares: Squares, learned: Mapping[str, nn.Parameter]) -> None:
    for name, parameter in learned.items():
        if parameter.grad is not None:
            squares[name].addcmul_(parameter.grad, parameter.grad)
            parameter.grad = None
