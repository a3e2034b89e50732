"""`vocabulary: union`: rows meet by the text of their tokens, and text goes round unchanged."""

import json
from pathlib import Path

import pytest
import tiny_experts
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from omnicompose.errors import PlanError
from omnicompose.merger import merge
from omnicompose.merger_files import renumbered
from omnicompose.verification import recompute

TABLE = "model.embed_tokens.weight"
FIRST, SECOND = ("<tool>", "<shared>"), ("<shared>", "<think>", "</think>")
ROWS = 300
"""Of the tiny base's padded table; its tokenizer has fewer tokens."""


def write_model(folder: Path, added: tuple[str, ...], seed: int, **changes: object) -> Path:
    """A tiny Llama with tokens of its own behind the base's."""
    torch.manual_seed(seed)
    tokenizer = tiny_experts.write_tokenizer(folder, added)
    model = transformers.LlamaForCausalLM(tiny_experts.text_config(**changes))
    model.save_pretrained(folder)
    assert len(tokenizer) <= model.config.vocab_size
    return folder


@pytest.fixture(scope="module")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabulary")
    write_model(folder / "base", (), 0)
    write_model(folder / "one", FIRST, 1)
    write_model(folder / "two", SECOND, 2)
    return folder


def run(folder: Path, out: Path, text: str) -> Path:
    recipe = folder / f"{out.name}.yaml"
    recipe.write_text(text + "vocabulary: union\n")
    merge(recipe, out)
    return out


def rows(folder: Path, name: str = TABLE) -> dict[str, torch.Tensor]:
    """The rows of a model's table by token."""
    table = load_file(folder / "model.safetensors")[name]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return {text: table[row] for text, row in tokenizer.get_vocab().items()}


def test_tokens_meet_by_their_text(models_folder: Path, tmp_path: Path) -> None:
    out = run(
        models_folder,
        tmp_path / "out",
        "base: base\nmodels: [{source: one, weight: 0.5}, {source: two, weight: 0.25}]\n"
        "method: task_arithmetic\n",
    )
    base, one, two, found = (
        rows(place) for place in (*(models_folder / name for name in ("base", "one", "two")), out)
    )
    assert set(found) == set(base) | set(FIRST) | set(SECOND)
    for text, row in found.items():
        if text in base:
            expected = base[text] + 0.5 * (one[text] - base[text]) + 0.25 * (two[text] - base[text])
        elif text == "<shared>":
            # The base has no such row: the mean of those who have it, moved by their deltas.
            mean = (one[text] + two[text]) / 2
            expected = mean + 0.5 * (one[text] - mean) + 0.25 * (two[text] - mean)
        else:
            expected = one[text] if text in one else two[text]
        torch.testing.assert_close(row, expected, atol=1e-6, rtol=1e-6, msg=text)


def test_text_goes_round_and_the_folder_loads(models_folder: Path, tmp_path: Path) -> None:
    out = run(
        models_folder, tmp_path / "out", "base: base\nmodels: [{source: one}, {source: two}]\n"
    )
    tokenizer = AutoTokenizer.from_pretrained(out)
    base = AutoTokenizer.from_pretrained(models_folder / "base")
    text = "a red<tool> three<think>what</think> is<shared>this?"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert all(token in tokenizer.convert_ids_to_tokens(ids) for token in FIRST + SECOND)
    assert tokenizer("what is this?")["input_ids"] == base("what is this?")["input_ids"]
    model, info = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.get_input_embeddings().weight.shape[0] == ROWS
    assert model(torch.tensor([ids])).logits.isfinite().all()
    assert recompute(out, models_folder, every_tensor=True).num_checked > 0


def test_a_padded_table_is_kept_and_a_full_one_grows(models_folder: Path, tmp_path: Path) -> None:
    size = len(AutoTokenizer.from_pretrained(models_folder / "base"))
    write_model(tmp_path / "tight", (), 3, vocab_size=size)
    text = f"models: [{{source: {tmp_path}/tight}}, {{source: two}}]\n"
    out = run(models_folder, tmp_path / "out", text)
    merged = load_file(out / "model.safetensors")[TABLE]
    assert merged.shape[0] == size + len(SECOND)
    assert json.loads((out / "config.json").read_text())["vocab_size"] == size + len(SECOND)
    torch.testing.assert_close(rows(out)["<think>"], rows(models_folder / "two")["<think>"])
    padded = run(
        models_folder, tmp_path / "p", f"models: [{{source: two}}, {{source: {tmp_path}/tight}}]\n"
    )
    table, two = (
        load_file(p / "model.safetensors")[TABLE] for p in (padded, models_folder / "two")
    )
    assert table.shape == two.shape
    # Rows that stand for no token are the first model's where the other has none.
    assert torch.equal(table[size + len(SECOND) :], two[size + len(SECOND) :])


def test_one_model_comes_back_row_by_row(models_folder: Path, tmp_path: Path) -> None:
    out = run(
        models_folder,
        tmp_path / "out",
        "base: base\nmodels: [{source: two, weight: 1}]\nmethod: task_arithmetic\n",
    )
    two = rows(models_folder / "two")
    for text, row in rows(out).items():
        torch.testing.assert_close(row, two[text], atol=1e-6, rtol=1e-6)


def test_kept_tables_get_the_rows_of_new_tokens(models_folder: Path, tmp_path: Path) -> None:
    out = run(
        models_folder,
        tmp_path / "out",
        "base: base\nmodels: [{source: one}, {source: two}]\nroles: {embedding: base}\n",
    )
    base, two, found = (rows(p) for p in (models_folder / "base", models_folder / "two", out))
    assert torch.equal(
        found["what"] if "what" in found else found["a"], base.get("what", base["a"])
    )
    assert torch.equal(found["<think>"], two["<think>"])


def test_a_tied_model_lends_its_embeddings_as_a_head(models_folder: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "untied", FIRST, 4, tie_word_embeddings=False)
    text = f"models: [{{source: {tmp_path}/untied}}, {{source: two}}]\n"
    out = run(models_folder, tmp_path / "out", text)
    head, theirs = rows(out, "lm_head.weight"), rows(models_folder / "two")
    ours = rows(tmp_path / "untied", "lm_head.weight")
    torch.testing.assert_close(head["a"], (ours["a"] + theirs["a"]) / 2)
    torch.testing.assert_close(head["<think>"], theirs["<think>"])
    torch.testing.assert_close(head["<tool>"], ours["<tool>"])
    _, info = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"]
    turned = f"models: [{{source: two}}, {{source: {tmp_path}/untied}}]\n"
    with pytest.raises(PlanError, match=r"untied: lm_head\.weight is not its embeddings"):
        run(models_folder, tmp_path / "turned", turned)


def test_special_ids_and_generation_settings_are_renumbered_together(
    models_folder: Path, tmp_path: Path
) -> None:
    chat = write_model(tmp_path / "chat", ("<x>", "<|im_end|>"), 5)
    ids = AutoTokenizer.from_pretrained(chat).get_vocab()
    config = json.loads((chat / "config.json").read_text())
    (chat / "config.json").write_text(json.dumps(config | {"eos_token_id": ids["<|im_end|>"]}))
    (chat / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [ids["<|im_end|>"], 2], "max_new_tokens": 7})
    )
    tokenizer = AutoTokenizer.from_pretrained(chat)
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.chat_template = "{{ messages }}"
    tokenizer.save_pretrained(chat)
    text = f"models: [{{source: two}}, {{source: {chat}, name: chat}}]\n"
    out = run(models_folder, tmp_path / "out", text + "special_tokens_from: chat\n")
    new = AutoTokenizer.from_pretrained(out)
    place = new.get_vocab()["<|im_end|>"]
    assert place != ids["<|im_end|>"]
    assert json.loads((out / "config.json").read_text())["eos_token_id"] == place
    generation = json.loads((out / "generation_config.json").read_text())
    assert generation == {"eos_token_id": [place, 2], "max_new_tokens": 7}
    assert (new.eos_token, new.eos_token_id) == ("<|im_end|>", place)
    assert new.chat_template == "{{ messages }}"
    with pytest.raises(PlanError, match="special_tokens_from: found 'chatt', expected one of two"):
        run(models_folder, tmp_path / "b", text + "special_tokens_from: chatt\n")
    assert not (tmp_path / "b").exists()


def test_only_settings_of_tokens_are_renumbered() -> None:
    settings = {
        "eos_token_id": [5, 6],
        "pad_token_id": None,
        "image_token_index": 7,
        "max_new_tokens": 5,
        "num_image_tokens": 6,
        "text_config": {"bos_token_id": 6, "num_hidden_layers": 6},
        "suppress_tokens": [7, -1],
        "bad_words_ids": [[5], [6, 7]],
    }
    assert renumbered(settings, {5: 50, 6: 60, 7: 70}) == {
        "eos_token_id": [50, 60],
        "pad_token_id": None,
        "image_token_index": 70,
        "max_new_tokens": 5,
        "num_image_tokens": 6,
        "text_config": {"bos_token_id": 60, "num_hidden_layers": 6},
        "suppress_tokens": [70, -1],
        "bad_words_ids": [[50], [60, 70]],
    }


def test_what_cannot_be_united_is_refused(models_folder: Path, tmp_path: Path) -> None:
    other = Tokenizer(models.WordLevel({"<unk>": 0, "hello": 1}, unk_token="<unk>"))
    write_model(tmp_path / "other", (), 6)
    PreTrainedTokenizerFast(tokenizer_object=other).save_pretrained(tmp_path / "other")
    text = f"models: [{{source: one}}, {{source: {tmp_path}/other}}]\n"
    with pytest.raises(PlanError, match="it splits text in another way"):
        run(models_folder, tmp_path / "a", text)
    (tmp_path / "other/tokenizer.json").unlink()
    with pytest.raises(PlanError, match=r"has no tokenizer\.json"):
        run(models_folder, tmp_path / "a", text)
    for place in ("x", "y"):
        save_file({"w": torch.ones(2)}, tmp_path / f"{place}.safetensors")
    raw = f"layout: raw\nmodels: [{{source: {tmp_path}/x.safetensors}}]\n"
    with pytest.raises(PlanError, match="union needs tokenizers"):
        run(models_folder, tmp_path / "a", raw)
    tiny_experts.write_tokenizer(tmp_path / "short")
    config = tiny_experts.text_config(vocab_size=200)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "short")
    text = f"models: [{{source: one}}, {{source: {tmp_path}/short}}]\n"
    with pytest.raises(PlanError, match=r"short: .* has 200 rows, its tokenizer has"):
        run(models_folder, tmp_path / "a", text)


def test_without_a_union_tables_of_other_sizes_are_refused_by_name(
    models_folder: Path, tmp_path: Path
) -> None:
    write_model(tmp_path / "wide", (), 7, vocab_size=310)
    recipe = models_folder / "plain.yaml"
    recipe.write_text(f"models: [{{source: one}}, {{source: {tmp_path}/wide}}]\n")
    with pytest.raises(PlanError, match=r"embed_tokens.*\[310, 32\].*`vocabulary: union`"):
        merge(recipe, tmp_path / "out")
    recipe.write_text(recipe.read_text() + "roles: {embedding: base, head: base}\n")
    merge(recipe, tmp_path / "out")
    kept = load_file(tmp_path / "out/model.safetensors")[TABLE]
    assert torch.equal(kept, load_file(models_folder / "one/model.safetensors")[TABLE])
