"""Write two tiny LLaVA-family experts on one base, with random weights, by transformers' classes.

They have the files and names of the published ones; only their sizes differ.
"""

from pathlib import Path

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SIDE = {"height": 16, "width": 16}
GRIDS = [[16, 32], [32, 16], [32, 32]]
CLIP = hf.CLIPVisionConfig(
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    image_size=16,
    patch_size=8,
)
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% else %}<{{ part.type }}>{% endif %}"
    "{% endfor %}{% endfor %}"
)


def text_config(rows: int) -> hf.LlamaConfig:
    """A Llama of two layers."""
    return hf.LlamaConfig(
        vocab_size=rows,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        pad_token_id=0,
    )


def tokenizer(*placeholders: str) -> hf.PreTrainedTokenizerFast:
    """A tokenizer that spells byte by byte, with an expert's placeholders behind."""
    letters = ["<pad>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {letter: place for place, letter in enumerate(letters)}
    spelling = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    spelling.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    spelling.decoder = decoders.ByteLevel()
    fast = hf.PreTrainedTokenizerFast(
        tokenizer_object=spelling, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    fast.add_tokens(list(placeholders), special_tokens=True)
    return fast


def near(base: hf.LlamaForCausalLM, model: hf.PreTrainedModel) -> None:
    """Make a fine-tune of it: the base's language model, a little moved."""
    rows = base.config.vocab_size
    own = dict(model.model.language_model.named_parameters())
    for name, weight in base.model.named_parameters():
        own[name].data[: weight.shape[0]] = weight + 0.001 * torch.randn_like(weight)
    model.lm_head.weight.data[:rows] = base.lm_head.weight


def write(folder: Path) -> None:
    """`base`, `llava` (pictures) and `llava-video` (clips) in `folder`."""
    torch.manual_seed(0)
    base = hf.LlamaForCausalLM(text_config(len(tokenizer())))
    base.save_pretrained(folder / "base")
    plain = tokenizer()
    plain.chat_template = TEMPLATE
    plain.save_pretrained(folder / "base")

    words = tokenizer("<image>")
    config = hf.LlavaConfig(
        vision_config=CLIP,
        text_config=text_config(len(words)),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=False,
    )
    llava = hf.LlavaForConditionalGeneration(config)
    near(base, llava)
    llava.save_pretrained(folder / "llava")
    pictures = hf.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=SIDE)
    rest = {"patch_size": 8, "vision_feature_select_strategy": "default"}
    rest |= {"num_additional_image_tokens": 1, "chat_template": TEMPLATE}
    hf.LlavaProcessor(pictures, words, **rest).save_pretrained(folder / "llava")

    words = tokenizer("<video>", "<image>")
    config = hf.LlavaNextVideoConfig(
        vision_config=CLIP,
        text_config=text_config(len(words)),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        video_token_id=words.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=GRIDS,
        tie_word_embeddings=False,
    )
    video = hf.LlavaNextVideoForConditionalGeneration(config)
    near(base, video)
    video.save_pretrained(folder / "llava-video")
    clips = hf.LlavaNextVideoVideoProcessor(size={"shortest_edge": 16}, crop_size=SIDE)
    pictures = hf.LlavaNextImageProcessor(
        size={"shortest_edge": 16}, crop_size=SIDE, image_grid_pinpoints=GRIDS
    )
    processor = hf.LlavaNextVideoProcessor(clips, pictures, words, **rest)
    processor.save_pretrained(folder / "llava-video")


if __name__ == "__main__":
    write(Path("tiny"))
