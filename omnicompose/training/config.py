"""What was asked of a training, read strictly; every mistake is reported at once, with its line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from omnicompose.errors import RecipeError, TrainingError
from omnicompose.recipe_fields import Dtype, ModalityName, SizeField, SourceField, Strict
from omnicompose.recipe_problems import describe_problems
from omnicompose.recipe_yaml import read_yaml

LINEAR_ROLES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
Strategy = Literal["connector", "lora", "decoupled", "full"]


def _as_path(value: object, info: ValidationInfo) -> Path:
    folder: Path = info.context["folder"] if info.context else Path.cwd()
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError(f"found {value!r}, expected the path of a file.")
    path = (folder / Path(value).expanduser()).resolve()
    if not path.is_file():
        raise ValueError(f"found {str(value)!r}, but {path} is no file. Correct the path.")
    return path


FilePath = Annotated[
    Path,
    BeforeValidator(_as_path),
    PlainSerializer(str),
    WithJsonSchema({"type": "string"}),
]


class Lora(Strict):
    """Low-rank adapters on the language model's linear layers."""

    rank: int = Field(default=16, ge=1)
    """Rows of A."""
    alpha: float | None = Field(default=None, gt=0)
    """Products are scaled by alpha / rank; null: the rank, so that they count as they are."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of inputs that an adapter does not see while it learns."""
    roles: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = LINEAR_ROLES
    """Last path components of the layers that get an adapter."""


class Data(Strict):
    """Where records come from: files, or a generator of the zoo."""

    files: Annotated[tuple[FilePath, ...], Field(strict=False)] = ()
    """JSONL files of chats; several are joined."""
    generator: str | None = None
    """The zoo's lessons instead: `captions`, `questions` or `text`."""
    count: int = Field(default=0, ge=0)
    """How many records the generator makes."""

    @model_validator(mode="after")
    def _check_one_kind(self) -> "Data":
        if bool(self.files) == (self.generator is not None):
            raise ValueError("found both or neither of `files` and `generator`. Name one.")
        if (self.generator is not None) != (self.count > 0):
            raise ValueError("`count` belongs to `generator`: give both, or `files` alone.")
        return self


class Stage(Strict):
    """One stretch of training; it goes on from the weights of the stage before."""

    strategy: Strategy
    """What of the language model learns: `connector` (nothing), `lora`, `decoupled` (an adapter
    for the modality's tokens and one for text) or `full`."""
    data: Data
    """What it learns from."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; or `epochs`."""
    epochs: float | None = Field(default=None, gt=0)
    """Rounds through the records; or `steps`."""
    batch_size: int = Field(default=16, ge=1)
    """Records per step on each device, before accumulation."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients are summed up for one step."""
    learning_rate: float = Field(gt=0)
    """Peak rate of adapters, of all weights (`full`) or of the connector (`connector`)."""
    connector_learning_rate: float | None = Field(default=None, ge=0)
    """Peak rate of the connector; null: `learning_rate`; 0: it does not learn."""
    encoder_learning_rate: float = Field(default=0.0, ge=0)
    """Peak rate of the encoder; 0: frozen, and its features are computed once."""
    lora: Lora = Lora()
    """The adapters of `lora` and `decoupled`."""
    warmup_steps: int = Field(default=30, ge=0)
    """Steps in which the rate rises to its peak; it falls along a cosine after."""
    floor: float = Field(default=0.05, ge=0, le=1)
    """Share of the peak rate at which the cosine ends."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Of AdamW, on matrices."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to it."""
    shuffle: bool = True
    """Another random order in every round; false: as the files have them."""
    group_by_length: bool = True
    """Records of like length in one batch, so that little is padding; needs `shuffle`."""

    @model_validator(mode="after")
    def _check_length(self) -> "Stage":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("found both or neither of `steps` and `epochs`. Name one.")
        return self


class EncoderChoice(Strict):
    """The encoder of a new expert."""

    source: SourceField | None = None
    """An encoder by itself (ours, or of transformers, timm or open_clip), or a multimodal
    checkpoint that has one."""
    type: str | None = None
    """Name in the registry of encoders, for one with fresh weights."""
    config: Mapping[str, object] = Field(default_factory=dict)
    """Of an encoder with fresh weights."""
    preprocessor: SourceField | None = None
    """A folder with `preprocessor_config.json`; null: the source's own."""

    @model_validator(mode="after")
    def _check_one_kind(self) -> "EncoderChoice":
        if (self.source is None) == (self.type is None):
            raise ValueError("found both or neither of `source` and `type`. Name one.")
        if self.config and self.type is None:
            raise ValueError("`config` belongs to `type`; a source brings its own.")
        return self


class ConnectorChoice(Strict):
    """The connector of a new expert."""

    type: str = "mlp"
    """Name in the registry of connectors."""
    config: Mapping[str, object] = Field(default_factory=dict)
    """Its settings; `input_size` and `output_size` are filled in."""
    weights: FilePath | None = None
    """A `connector.safetensors` to start from; null: fresh weights."""


class TrainConfig(Strict):
    """A training (`omnicompose train`)."""

    base: SourceField
    """A plain language model, which becomes a new expert with `encoder` and `connector`; or a
    multimodal checkpoint or composite, which is trained as it is."""
    modality: ModalityName | None = None
    """What a new expert understands."""
    encoder: EncoderChoice | None = None
    """Of a new expert."""
    connector: ConnectorChoice = ConnectorChoice()
    """Of a new expert."""
    prefix_tokens: int = Field(default=0, ge=0)
    """Embeddings of a new expert that stand before each medium and learn with the connector."""
    suffix_tokens: int = Field(default=0, ge=0)
    """Likewise behind each medium."""
    stages: Annotated[tuple[Stage, ...], Field(strict=False, min_length=1)]
    """One after the other."""
    precision: Dtype = "float32"
    """Of the arithmetic; below float32, weights that learn stay in float32."""
    dtype: Dtype | None = None
    """Of the files that are written; null: as the base has them."""
    attention: Literal["eager", "sdpa", "flash_attention_2"] | None = None
    """Kernel; null: transformers' choice. On a CPU, `eager` is the fastest at tiny widths."""
    gradient_checkpointing: bool = False
    """Compute activations again on the way back, to save memory."""
    max_length: int = Field(default=2048, ge=8)
    """Longest record in tokens, media included."""
    feature_memory: SizeField = 2 * 1024**3
    """Memory for preprocessed media and features; what does not fit is computed again."""
    save_every: int = Field(default=200, ge=0)
    """Steps between checkpoints to resume from; 0: only between stages."""
    log_every: int = Field(default=1, ge=1)
    """Steps per point of the loss curve."""
    workers: int = Field(default=0, ge=0)
    """Processes that prepare batches."""
    seed: int = Field(default=0, ge=0)
    """Of fresh weights, the order of records and dropout."""

    @model_validator(mode="after")
    def _check_parts(self) -> "TrainConfig":
        if (self.encoder is None) != (self.modality is None):
            raise ValueError("`modality` and `encoder` make a new expert: give both or neither.")
        kinds = {stage.strategy for stage in self.stages} - {"connector"}
        if len(kinds) > 1:
            raise ValueError(
                f"stages of strategy {' and '.join(sorted(kinds))}: a language model is adapted in "
                "one way. Keep one of them beside `connector`."
            )
        if "decoupled" in kinds and self.encoder is None:
            raise ValueError(
                "strategy `decoupled` needs a plain language model as base, with `encoder`."
            )
        adapters = {stage.lora for stage in self.stages if stage.strategy in ("lora", "decoupled")}
        if len(adapters) > 1:
            raise ValueError("stages with different `lora`: they share one adapter. Repeat it.")
        fresh = self.encoder is not None and self.encoder.source is None
        if fresh and not any(stage.encoder_learning_rate for stage in self.stages):
            raise ValueError(
                "a fresh encoder that never learns. Set `encoder_learning_rate` in a stage, or "
                "name a `source`."
            )
        if not self.has_encoder and (self.prefix_tokens or self.suffix_tokens):
            raise ValueError("`prefix_tokens` and `suffix_tokens` belong to a new expert.")
        return self

    @property
    def has_encoder(self) -> bool:
        """Whether a new expert is made from a plain language model."""
        return self.encoder is not None

    @property
    def adaptation(self) -> Strategy:
        """How the language model is adapted in the end."""
        kinds = [stage.strategy for stage in self.stages if stage.strategy != "connector"]
        return kinds[-1] if kinds else "connector"

    @property
    def lora(self) -> Lora:
        """The adapters, where there are any."""
        return next(stage.lora for stage in self.stages if stage.strategy == self.adaptation)


def read_train_config(path: Path) -> TrainConfig:
    """Read a training's YAML file; relative paths in it start from its folder.

    Raises:
        TrainingError: one error that lists every mistake as `path:line: message`.
    """
    try:
        file = read_yaml(path)
    except RecipeError as err:
        raise TrainingError(str(err)) from err
    try:
        return TrainConfig.model_validate(file.content, context={"folder": path.parent.resolve()})
    except ValidationError as err:
        raise TrainingError("\n".join(describe_problems(err, TrainConfig, file))) from err
