"""What is not weights in a merged model's folder: configuration, tokenizer, generation settings."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from omnicompose.errors import PlanError
from omnicompose.experts.auto import UNREADABLE, first_line, load_auto
from omnicompose.families import FAMILIES
from omnicompose.plan.merge_plan import MergePlan
from omnicompose.plan.merge_vocabulary import tokens_of
from omnicompose.plan.participant import Participant
from omnicompose.plan.token_union import ModelTokens, TokenUnion

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".index.json")
"""Files of a model folder that are weights or say where weights lie."""
TOKEN_ID_KEY = re.compile(
    r"(^|_)(token_ids?|token_index|words_ids)$|^(begin_)?suppress_tokens$|^forced_\w+_token_id$"
)
"""Settings of config.json and generation_config.json that hold numbers of tokens."""
SPECIAL_TOKENS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
GENERATION_FILE = "generation_config.json"


def write_model_files(plan: MergePlan, folder: Path) -> None:
    """Copy what is not weights from the donor, and bring it up to the merge.

    Raises:
        PlanError: the recipe names a model for the special tokens that is not there.
    """
    for path in sorted(plan.donor.folder.iterdir()):
        if path.is_file() and not path.name.endswith(WEIGHT_SUFFIXES):
            shutil.copyfile(path, folder / path.name)
    if plan.recipe.dtype is not None:
        # transformers before 5 wrote `torch_dtype`.
        _edit(folder / "config.json", lambda config: _set_dtype(config, str(plan.recipe.dtype)))
    if plan.union is not None:
        _set_vocabulary(plan, plan.union, folder)


def _set_dtype(config: dict[str, object], dtype: str) -> dict[str, object]:
    return config | {"torch_dtype" if "torch_dtype" in config else "dtype": dtype}


def _set_vocabulary(plan: MergePlan, union: TokenUnion, folder: Path) -> None:
    """Sizes, special ids, generation settings and tokenizer, all in the joint numbering."""
    _edit(folder / "config.json", lambda config: _set_size(config, union.num_rows))
    donor, lender = tokens_of(plan.donor).folder, _lender(plan)
    tokens = tokens_of(lender)
    if lender is not plan.donor:
        _take_special_ids(lender, tokens, union, folder)
    if union.new or lender is not plan.donor:
        trusted = plan.recipe.trust_remote_code
        _write_tokenizer(donor, tokens, union, folder, trust_remote_code=trusted)


def _lender(plan: MergePlan) -> Participant:
    wanted = plan.recipe.special_tokens_from
    if wanted is None:
        return plan.donor
    labels = [model.label for model in plan.recipe.models]
    if wanted in labels:
        return plan.models[labels.index(wanted)]
    raise PlanError(
        f"special_tokens_from: found {wanted!r}, expected one of {', '.join(labels)}. "
        "Name one of the models."
    )


def _edit(path: Path, change: Callable[[dict[str, object]], dict[str, object]]) -> None:
    config = change(json.loads(path.read_text(encoding="utf-8")))
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _set_size(config: dict[str, object], num_rows: int) -> dict[str, object]:
    architectures = config.get("architectures")
    name = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    place = FAMILIES[name].text_config if name in FAMILIES else ""
    if not place and isinstance(config.get("text_config"), dict):
        place = "text_config"
    inner = config.get(place)
    if isinstance(inner, dict):
        # Some families repeat the size of the text model at the top.
        top = {"vocab_size": num_rows} if "vocab_size" in config else {}
        return config | top | {place: inner | {"vocab_size": num_rows}}
    return config | {"vocab_size": num_rows}


def _take_special_ids(
    lender: Participant, tokens: ModelTokens, union: TokenUnion, folder: Path
) -> None:
    """The lender's special ids in configuration and generation settings, renumbered together."""
    new_ids = {token_id: union.ids[text] for text, token_id in tokens.tokens.ids.items()}
    lent = renumbered(_token_settings(lender.config), new_ids)
    _edit(folder / "config.json", lambda config: _laid_over(config, lent))
    generation = lender.folder / GENERATION_FILE
    if generation.is_file():
        settings = json.loads(generation.read_text(encoding="utf-8"))
        text = json.dumps(renumbered(settings, new_ids), indent=2) + "\n"
        (folder / GENERATION_FILE).write_text(text, encoding="utf-8")
    elif (folder / GENERATION_FILE).is_file():
        _edit(folder / GENERATION_FILE, lambda settings: _laid_over(settings, lent))


def _token_settings(config: Mapping[str, object]) -> dict[str, object]:
    """Only what holds numbers of tokens, at any depth."""
    found: dict[str, object] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= {key: inner} if (inner := _token_settings(value)) else {}
        elif TOKEN_ID_KEY.search(key) and value is not None:
            found[key] = value
    return found


def _laid_over(config: dict[str, object], lent: Mapping[str, object]) -> dict[str, object]:
    """`config` with the values of `lent` that it has a place for."""
    changed = dict(config)
    for key, value in lent.items():
        here = config.get(key)
        if isinstance(here, dict) and isinstance(value, Mapping):
            changed[key] = _laid_over(here, value)
        elif not isinstance(value, Mapping):
            changed[key] = value
    return changed


def renumbered(settings: Mapping[str, object], new_ids: Mapping[int, int]) -> dict[str, object]:
    """Settings with every number of a token replaced, at any depth."""
    return {
        key: renumbered(value, new_ids)
        if isinstance(value, Mapping)
        else _renumbered_ids(value, new_ids)
        if TOKEN_ID_KEY.search(key)
        else value
        for key, value in settings.items()
    }


def _renumbered_ids(value: object, new_ids: Mapping[int, int]) -> object:
    if isinstance(value, list):
        return [_renumbered_ids(one, new_ids) for one in value]
    # -1 and the like stand for no token.
    return new_ids.get(value, value) if isinstance(value, int) else value


def _write_tokenizer(
    donor: Path, lender: ModelTokens, union: TokenUnion, folder: Path, *, trust_remote_code: bool
) -> None:
    """The donor's tokenizer with the new tokens and the lender's special ones.

    Raises:
        PlanError: the tokenizer numbers a token in another way than the plan.
    """
    tokenizer = _read_tokenizer(donor, trust_remote_code=trust_remote_code)
    _add_tokens(tokenizer, union)
    if lender.folder != donor:
        theirs = _read_tokenizer(lender.folder, trust_remote_code=trust_remote_code)
        for name in SPECIAL_TOKENS:
            if (token := getattr(theirs, f"{name}_token")) is not None:
                setattr(tokenizer, f"{name}_token", token)
        tokenizer.chat_template = theirs.chat_template
    tokenizer.save_pretrained(folder)


def _read_tokenizer(folder: Path, *, trust_remote_code: bool) -> "PreTrainedTokenizerBase":
    try:
        found = load_auto("AutoTokenizer", str(folder), folder, trust_remote_code=trust_remote_code)
    except UNREADABLE as error:
        raise PlanError(
            f"{folder}: transformers cannot read its tokenizer: {first_line(error)} Save it again "
            "with save_pretrained."
        ) from error
    return cast("PreTrainedTokenizerBase", found)


def _add_tokens(tokenizer: "PreTrainedTokenizerBase", union: TokenUnion) -> None:
    """Give it the new tokens, each as its owner describes it."""
    from transformers import AddedToken

    for text, owner in union.new.items():
        described = _described(owner.file, text)
        special = described.pop("special", False)
        added = AddedToken(text, special=special, **described)
        tokenizer.add_tokens([added], special_tokens=special)
        found = tokenizer.convert_tokens_to_ids(text)
        if found != union.ids[text]:
            raise PlanError(
                f"the tokenizer gives {text!r} the id {found}, the plan {union.ids[text]}. "
                "Please report these models."
            )


def _described(file: Path, text: str) -> dict[str, bool]:
    """How an added token is matched, as its tokenizer's file says."""
    added = json.loads(file.read_text(encoding="utf-8"))["added_tokens"]
    token = next(one for one in added if one["content"] == text)
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return {flag: bool(token.get(flag)) for flag in flags}
