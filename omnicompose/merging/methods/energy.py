"""How much each expert moved a tensor, as statistics that add up over tiles."""

from collections.abc import Mapping, Sequence

import torch

from omnicompose.merging.method import TensorGroup


def observe_energy(group: TensorGroup, moved: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Per expert `energy.<expert>`: the sum of squares of its delta, fp64 scalar."""
    return {
        f"energy.{expert}": delta.double().square().sum()
        for expert, delta in zip(group.expert_names, moved, strict=True)
    }


def observe_shift(group: TensorGroup, moved: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Per expert `shift.<expert>`: fp64 `[2]`, the sum of magnitudes and the number of entries."""
    return {
        f"shift.{expert}": torch.stack(
            [delta.abs().sum(dtype=torch.float64), delta.new_tensor(delta.numel()).double()]
        )
        for expert, delta in zip(group.expert_names, moved, strict=True)
    }


def energy_shares(group: TensorGroup, statistics: Mapping[str, torch.Tensor]) -> list[float]:
    """Each expert's share of the summed energy; equal shares only if nothing moved at all."""
    energies = [float(statistics[f"energy.{expert}"]) for expert in group.expert_names]
    total = sum(energies)
    return [e / total if total > 0.0 else 1.0 / len(energies) for e in energies]
