"""A hash per job: whether an interrupted merge may go on with what it finds."""

import hashlib
import json
from collections.abc import Sequence

from omnicompose.errors import SourceError
from omnicompose.merging.job import (
    Copy,
    Derived,
    Difference,
    Factors,
    Fill,
    Job,
    Measure,
    Merge,
    Node,
    Part,
    Rows,
)
from omnicompose.merging.job import TensorRef as Ref
from omnicompose.tensors.source import TensorInfo, TensorSource

Description = list[object]


class InputFiles:
    """The state of the files that jobs read: name, size and time, not a read of all their bytes."""

    def __init__(self) -> None:
        """Know none yet."""
        self._known: dict[int, tuple[TensorSource, str]] = {}

    def state(self, source: TensorSource) -> str:
        """A hash of the state that a source's files were in when it was first asked for.

        Raises:
            SourceError: a file is gone.
        """
        if id(source) not in self._known:
            self._known[id(source)] = source, _state(source)
        return self._known[id(source)][1]

    def check_unchanged(self) -> None:
        """Refuse to vouch for what was read while it changed.

        Raises:
            SourceError: naming the source.
        """
        for source, before in self._known.values():
            if _state(source) != before:
                raise SourceError(
                    f"{source.label}: its files changed while they were read, so the output may "
                    "mix both; expected them to stay as they are. Run again without --resume."
                )


def job_hashes(jobs: Sequence[Job], files: InputFiles | None = None) -> dict[str, str]:
    """One hash per output tensor, of the job and of the state of its inputs' files.

    Args:
        jobs: what is to be computed.
        files: gets to know the state of every input file.

    Raises:
        SourceError: an input file is gone.
    """
    files = files or InputFiles()
    return {job.output.name: _hash(_describe(job, files)) for job in jobs}


def _hash(description: object) -> str:
    text = json.dumps(description, sort_keys=True, default=dict)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _describe(node: Node, files: InputFiles) -> Description:
    match node:
        case Ref():
            rows = [node.first_row, node.num_rows]
            return ["read", files.state(node.source), node.name, *rows]
        case Merge():
            return ["merge", *_describe_merge(node, files)]
        case Part():
            return ["part", _describe(node.merge, files), node.expert]
        case Fill():
            mean_of = None if node.mean_of is None else _describe(node.mean_of, files)
            return ["fill", node.num_rows, mean_of]
        case Copy():
            return ["copy", _info(node.output), _describe(node.tensor, files)]
        case Rows():
            return ["rows", _info(node.output), [_describe(p, files) for p in node.pieces]]
        case Difference():
            operands = [_describe(operand, files) for operand in (node.minuend, node.subtrahend)]
            return ["difference", _info(node.output), operands]
        case Factors():
            pieces = [[_describe(piece.tensor, files), piece.scale] for piece in node.pieces]
            return ["factors", _info(node.output), node.axis, pieces]
        case Derived():
            operands = [_describe(operand, files) for operand in node.operands]
            return ["derived", _info(node.output), node.maker.describe(), operands]


def _describe_merge(merge: Merge, files: InputFiles) -> Description:
    return [
        _info(merge.output),
        merge.method.spec.name,
        merge.parameters,
        None if merge.base is None else _describe(merge.base, files),
        [_describe(expert, files) for expert in merge.experts],
        [merge.expert_names, merge.weights],
        [merge.role, merge.layer, merge.num_layers],
        [merge.seed, merge.key, merge.use_factors],
        *(_describe_measure(measure, files) for measure in merge.measures),
    ]


def _describe_measure(measure: Measure | None, files: InputFiles) -> Description | None:
    return None if measure is None else [_describe(measure.ref, files), measure.count]


def _info(info: TensorInfo) -> Description:
    return [info.name, str(info.dtype), info.shape]


def _state(source: TensorSource) -> str:
    facts: Description = [source.label]
    for path in source.files():
        try:
            status = path.stat()
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror}. Restore the file.") from error
        facts.append([path.name, status.st_size, status.st_mtime_ns])
    return _hash(facts)
