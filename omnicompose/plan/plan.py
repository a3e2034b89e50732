"""What becomes of every tensor, decided before any is read."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from omnicompose.errors import PlanError
from omnicompose.experts.expert import Origin
from omnicompose.merging.job import Copy, Derived, Factors, Job, Merge, Rows, merges
from omnicompose.tensors.source import TensorInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One output tensor.

    Attributes:
        job: how it is computed.
        inputs: the tensors on disk that it comes from.
        reason: why it is so, in a phrase.
    """

    job: Job
    inputs: tuple[Origin, ...]
    reason: str

    @property
    def output(self) -> TensorInfo:
        """Name, dtype and shape as written."""
        return self.job.output

    def describe(self) -> dict[str, object]:
        """The entry as JSON, settings of the method included."""
        job = self.job
        described: dict[str, object] = {
            "name": self.output.name,
            "dtype": str(self.output.dtype).removeprefix("torch."),
            "shape": list(self.output.shape),
            "bytes": self.output.num_bytes,
            "action": type(job).__name__.lower(),
            "reason": self.reason,
            "inputs": [str(origin) for origin in self.inputs],
        }
        if isinstance(job, Merge):
            described |= _describe_merge(job)
        if isinstance(job, Factors):
            described["scales"] = [piece.scale for piece in job.pieces]
        if isinstance(job, Derived):
            described["made"] = job.maker.describe()
            described["of"] = [_describe_merge(merge) for merge in merges(job)]
        return described


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Every tensor of every input and of the output, accounted for.

    Attributes:
        entries: one per output tensor, in file order.
        dropped: inputs that reach no output, each with the reason.
        inventory: every tensor of every folder that was opened.
    """

    entries: tuple[Entry, ...]
    dropped: Mapping[Origin, str]
    inventory: frozenset[Origin]

    def __post_init__(self) -> None:
        """Check that nothing is unexplained and nothing is written twice.

        Raises:
            PlanError: an input has no fate, or two outputs have one name.
        """
        names = [entry.output.name for entry in self.entries]
        twice = sorted({name for name in names if names.count(name) > 1}) if _repeats(names) else []
        if twice:
            raise PlanError(f"two outputs would be called {twice[0]!r}. Please report this recipe.")
        lost = sorted(self.inventory - set(self.outputs_of_inputs()) - set(self.dropped))
        if lost:
            raise PlanError(
                f"{lost[0]}: nothing says what becomes of this tensor"
                f"{f' and {len(lost) - 1} more' if len(lost) > 1 else ''}. Expected it to be "
                "merged, copied or dropped with a reason. Please report this model."
            )

    @property
    def jobs(self) -> tuple[Job, ...]:
        """What the engine runs."""
        return tuple(entry.job for entry in self.entries)

    def outputs_of_inputs(self) -> dict[Origin, list[str]]:
        """For every input that is used, the outputs it reaches."""
        reached: dict[Origin, list[str]] = {}
        for entry in self.entries:
            for origin in dict.fromkeys(entry.inputs):
                reached.setdefault(origin, []).append(entry.output.name)
        return reached

    def bytes_to_write(self) -> int:
        """Bytes of all output tensors."""
        return sum(entry.output.num_bytes for entry in self.entries)

    def to_json(self) -> dict[str, object]:
        """Every output once and every input once, with totals."""
        reached = self.outputs_of_inputs()
        inputs = [
            {"tensor": str(origin), "outputs": reached.get(origin, [])}
            | ({"dropped": self.dropped[origin]} if origin in self.dropped else {})
            for origin in sorted(self.inventory)
        ]
        return {
            "digest": self.digest(),
            "bytes_to_write": self.bytes_to_write(),
            "outputs": [entry.describe() for entry in self.entries],
            "inputs": inputs,
        }

    def digest(self) -> str:
        """sha256 of what is computed from what; equal plans give equal bytes."""
        described = [entry.describe() for entry in self.entries]
        text = json.dumps(described, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def counts(self) -> dict[str, int]:
        """How many outputs each action makes, and how many inputs are dropped."""
        kinds = {"merged": Merge, "copied": Copy, "rows": Rows, "factors": Factors}
        kinds |= {"derived": Derived}
        found = {
            label: sum(isinstance(entry.job, kind) for entry in self.entries)
            for label, kind in kinds.items()
        }
        return found | {"dropped": len(self.dropped)}


def _describe_merge(job: Merge) -> dict[str, object]:
    """What the method is given; a merge that follows another one holds it inside."""
    described: dict[str, object] = {
        "method": job.method.spec.name,
        "parameters": dict(job.parameters),
        "weights": list(job.weights),
        "seed": job.seed,
    }
    inner = [one for one in job.experts if isinstance(one, Merge)]
    return described | ({"of": [_describe_merge(one) for one in inner]} if inner else {})


def _repeats(names: list[str]) -> bool:
    return len(set(names)) != len(names)
