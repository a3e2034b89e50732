"""A new expert: a plain language model, an encoder and a connector, put together as a composite."""

from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from omnicompose.connectors import make_connector
from omnicompose.errors import TrainingError
from omnicompose.experts.config import read_json
from omnicompose.experts.refusals import family_of
from omnicompose.experts.resolve import resolve
from omnicompose.modalities import MODALITIES
from omnicompose.modeling import (
    OmniComposeConfig,
    OmniComposeForConditionalGeneration,
    OmniComposeProcessor,
)
from omnicompose.plan.prompts import read_chat_template, typed_template
from omnicompose.streams import TEXT, StreamSpec, decouple
from omnicompose.training.config import TrainConfig
from omnicompose.training.encoder_choice import (
    Description,
    Encoding,
    open_encoder,
    preprocessor_of,
)
from omnicompose.training.frontends import frontends_of
from omnicompose.training.host import parts_of
from omnicompose.training.subject import Processor, Subject


def build_new_expert(config: TrainConfig) -> Subject:
    """Put the parts of a new expert together, in fp32.

    Raises:
        SourceError: the base or the encoder cannot be opened, or a description does not hold.
        TrainingError: the parts do not fit one another.
    """
    assert config.modality is not None
    folder = resolve(config.base)
    _refuse_multimodal(config, folder)
    encoding = open_encoder(config)
    tokenizer = _tokenizer(folder, config.modality)
    text = AutoConfig.from_pretrained(folder, local_files_only=True)
    connector = describe_connector(config, encoding, int(text.hidden_size))
    entry = _entry(config, tokenizer, encoding.description, connector)
    model = _assemble(config, folder, text, entry)
    _load_parts(config, model, encoding)
    template = typed_template(read_chat_template(folder), {config.modality: "\n"})
    processor = OmniComposeProcessor(
        tokenizer=tokenizer,
        chat_template=template,
        modalities={config.modality: entry},
        **preprocessor_of(config.modality, encoding),
    )
    names = [name for name, _ in model.named_parameters()]
    return Subject(
        model=model,
        processor=cast(Processor, processor),
        tokenizer=tokenizer,
        chat_template=template,
        modalities=(config.modality,),
        parts=parts_of(model, names),
        language_model="model.language_model",
        frontends=frontends_of(model),
        takes_paths=True,
        base=folder,
    )


def describe_connector(config: TrainConfig, encoding: Encoding, width: int) -> Description:
    """`{"type", "config"}` of the connector, its sizes filled in.

    Raises:
        TrainingError: it is told to take or give another width than there is.
    """
    chosen, feature_size = config.connector, cast(int, encoding.module.feature_size)
    if chosen.type == "identity":
        return {"type": chosen.type, "config": dict(chosen.config)}
    sizes = {"input_size": feature_size, "output_size": width}
    for name, size in sizes.items():
        if chosen.config.get(name, size) != size:
            raise TrainingError(
                f"connector.config.{name}: found {chosen.config[name]}, but the "
                f"{'encoder gives' if name == 'input_size' else 'base takes'} {size}. Leave it out."
            )
    return {"type": chosen.type, "config": {**chosen.config, **sizes}}


def _refuse_multimodal(config: TrainConfig, folder: Path) -> None:
    raw = read_json(folder / "config.json")
    if raw.get("model_type") == "omnicompose" or family_of(config.base.text, raw).text_config:
        raise TrainingError(
            f"base: {config.base} understands media already, expected a plain language model to "
            "give an encoder to. Leave out `modality` and `encoder` to train it as it is."
        )


def _tokenizer(folder: Path, modality: str) -> PreTrainedTokenizerBase:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokenizer.add_tokens([MODALITIES[modality].placeholder], special_tokens=True)
    return tokenizer


def _entry(
    config: TrainConfig,
    tokenizer: PreTrainedTokenizerBase,
    encoder: Description,
    connector: Description,
) -> dict[str, object]:
    """The modality as a composite's configuration describes it."""
    placeholder = MODALITIES[str(config.modality)].placeholder
    decoupled = config.adaptation == "decoupled"
    return {
        "token": placeholder,
        "token_id": tokenizer.convert_tokens_to_ids(placeholder),
        "encoder": dict(encoder),
        "connector": dict(connector),
        "num_prefix_tokens": config.prefix_tokens,
        "num_suffix_tokens": config.suffix_tokens,
        "stream": _stream(config) if decoupled else None,
    }


def _stream(config: TrainConfig) -> dict[str, object]:
    return {"form": "factored", "rank": config.lora.rank, "roles": list(config.lora.roles)}


def _assemble(
    config: TrainConfig, folder: Path, text: PreTrainedConfig, entry: dict[str, object]
) -> OmniComposeForConditionalGeneration:
    """The composite with the base's weights; its placeholder gets the mean row of the table."""
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    num_rows = max(text.vocab_size, cast(int, entry["token_id"]) + 1)
    grown = AutoConfig.from_pretrained(folder, local_files_only=True, vocab_size=num_rows)
    options = {"attn_implementation": config.attention} if config.attention else {}
    torch.manual_seed(config.seed)
    whole = OmniComposeConfig(text_config=grown, modalities={str(config.modality): entry})
    model: OmniComposeForConditionalGeneration = OmniComposeForConditionalGeneration._from_config(
        whole, **options
    )
    weights = {name: _grown(name, w, num_rows) for name, w in base.model.state_dict().items()}
    loaded = model.model.language_model.load_state_dict(weights, strict=False)
    lacking = [name for name in loaded.missing_keys if ".streams." not in name]
    assert not lacking and not loaded.unexpected_keys, (lacking, loaded.unexpected_keys)
    head = {n: _grown("embed_tokens", w, num_rows) for n, w in base.lm_head.state_dict().items()}
    model.lm_head.load_state_dict(head)
    model.tie_weights()
    if config.adaptation == "decoupled":
        decouple(model.model.language_model, {TEXT: StreamSpec.from_config(_stream(config))})
    return model


def _grown(name: str, weight: torch.Tensor, num_rows: int) -> torch.Tensor:
    """A table of tokens with rows for new ones; any other weight as it is."""
    missing = num_rows - len(weight) if "embed_tokens" in name else 0
    if missing <= 0:
        return weight
    return torch.cat([weight, weight.mean(dim=0, keepdim=True).expand(missing, -1)])


def _load_parts(
    config: TrainConfig, model: OmniComposeForConditionalGeneration, encoding: Encoding
) -> None:
    """Give the composite its encoder's weights, and its connector's where they are named."""
    name = config.modality
    getattr(model.model, f"{name}_encoder").load_state_dict(encoding.module.state_dict())
    if config.connector.weights is None:
        torch.manual_seed(config.seed)
        described = model.config.modalities[name]["connector"]
        fresh = cast(nn.Module, make_connector(described))
        getattr(model.model, f"{name}_connector").load_state_dict(fresh.state_dict())
        return
    tensors = {n: t.float() for n, t in load_file(config.connector.weights).items()}
    edges = {end: tensors.pop(end, None) for end in ("prefix", "suffix")}
    try:
        getattr(model.model, f"{name}_connector").load_state_dict(tensors)
    except RuntimeError as error:
        raise TrainingError(
            f"connector.weights: {config.connector.weights} does not fit the connector: {error}"
        ) from error
    for end, edge in edges.items():
        if edge is not None and hasattr(model.model, f"{name}_{end}"):
            getattr(model.model, f"{name}_{end}").data.copy_(edge)
