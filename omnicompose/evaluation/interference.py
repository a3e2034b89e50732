"""How much experts contradict one another inside the backbone, layer by layer: the numbers' form.

They are measured where recipes are known (`omnicompose.interference`) and lie beside the samples,
so that a report needs neither experts nor recipe.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from omnicompose.errors import EvaluationError

FILE_NAME = "interference.json"
_STRICT = ConfigDict(frozen=True, extra="forbid")


class Layer(BaseModel):
    """All merged tensors of one block of the backbone.

    Attributes:
        name: number of the block, or `outside` for embeddings, last norm and head.
        parameters: numbers in its merged tensors.
        norms: per expert, length of its change relative to the base's own length.
        cosine: per pair (`audio+image`), of the two changes; 0: unrelated, below: opposed.
        conflict: per pair, share of numbers that both change, in opposite directions.
    """

    model_config = _STRICT

    name: str
    parameters: int
    norms: dict[str, float]
    cosine: dict[str, float]
    conflict: dict[str, float]


class Interference(BaseModel):
    """Every layer, and what the recipe did.

    Attributes:
        text: the merging method of the text stream.
        modality: what a modality's own tokens use.
        layers: from the first block to the last, `outside` behind them.
    """

    model_config = _STRICT

    text: str
    modality: str
    layers: tuple[Layer, ...]


def read_interference(results_dir: Path) -> Interference | None:
    """What was measured for these results; None if nothing was.

    Raises:
        EvaluationError: the file is not what this version writes.
    """
    path = results_dir / FILE_NAME
    if not path.is_file():
        return None
    try:
        return Interference.model_validate_json(path.read_bytes())
    except ValidationError as err:
        raise EvaluationError(
            f"{path}: {err.errors()[0]['msg']}; expected the file that report --recipe writes. "
            "Delete it, or write it again."
        ) from err
