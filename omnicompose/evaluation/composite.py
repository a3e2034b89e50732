"""A composite that answers: the folder opened as any user would, prompts tokenised once.

The processor alone knows preprocessing, chat template and placeholders. To ask one question with
eight subsets without preparing its media eight times, prompts are put together here from the
processor's own text and the cached embeddings; the first prompt of every kind is held against what
the processor itself makes of it.
"""

from collections.abc import Sequence
from typing import cast

import torch

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.answerer import Prepared, Prompt, Unreadable
from omnicompose.evaluation.batches import (
    Batch,
    expand_placeholders,
    make_batch,
    places_by_modality,
    write_media,
)
from omnicompose.evaluation.embeddings import Embedded, EmbeddingCache
from omnicompose.evaluation.letters import DECIMALS, letter_token_ids
from omnicompose.evaluation.loaded import ComposedModel, Inputs, Message, Processor
from omnicompose.evaluation.next_token import counted, first_logits, memory_told
from omnicompose.evaluation.preprocessing import preprocess, split_runs
from omnicompose.evaluation.sample import LETTERS, Medium
from omnicompose.evaluation.subsets import Content


class Composite:
    """A loaded composite as an `Answerer`.

    Attributes:
        digest: of the folder it was loaded from.
        dtype: of the computation.
        model: the model itself.
        processor: its processor.
        cache: embeddings of media by content.
    """

    def __init__(
        self,
        model: ComposedModel,
        processor: Processor,
        placeholder_ids: dict[str, int],
        identity: tuple[str, str],
    ) -> None:
        """Wrap a loaded model; see `loading.load_composite`.

        Args:
            model: the model, in evaluation mode.
            processor: its processor.
            placeholder_ids: per modality of the model, the token that stands for its media.
            identity: digest and dtype.
        """
        self.digest, self.dtype = identity
        self.cache = EmbeddingCache(self._encode)
        self.model, self.processor = model, processor
        self._placeholder_ids = placeholder_ids
        self._checked: set[tuple[str, ...]] = set()
        self._spellings: dict[tuple[str, ...], torch.Tensor] = {}
        self._tokenized: dict[str, list[int]] = {}

    def forget(self) -> None:
        """Embed media anew: the model's weights have changed."""
        self.cache = EmbeddingCache(self._encode)

    def render(self, contents: Sequence[Content]) -> list[str]:
        """The exact prompt of each user turn."""
        texts = self.processor.apply_chat_template(
            [_messages(content) for content in contents],
            add_generation_prompt=True,
            tokenize=False,
            return_dict=False,
        )
        return cast(list[str], texts)

    def prepare(self, prompts: Sequence[Prompt]) -> list[Prepared | Unreadable]:
        """Tokenise, and encode media that were not encoded before.

        Raises:
            EvaluationError: a modality that the model lacks, or a prompt that differs from what the
                processor makes of the same turn.
        """
        self._check_modalities(prompts)
        embedded = self.cache.embed([medium for prompt in prompts for medium in prompt.media])
        media = [[embedded[medium.sha256] for medium in prompt.media] for prompt in prompts]
        texts = [self._written(prompt, found) for prompt, found in zip(prompts, media, strict=True)]
        return [
            self._prepare_one(prompt, ids, found)
            for prompt, ids, found in zip(prompts, self._tokenize(texts), media, strict=True)
        ]

    def batch(self, prompts: Sequence[Prepared]) -> Batch:
        """Model inputs of prompts of any lengths."""
        inputs = make_batch(prompts, self._pad_id, self.model.device)
        positions = self.model.number_positions(
            inputs.input_ids, inputs.attention_mask, places_by_modality(prompts)
        )
        return inputs._replace(position_ids=positions)

    @memory_told()
    @torch.inference_mode()
    def letter_log_likelihoods(
        self, batch: Sequence[Prepared], num_letters: int
    ) -> list[tuple[float, ...]]:
        """Log-probability of each option's letter, or opening, as the token behind each prompt."""
        inputs = self.batch(batch)
        if inputs.position_ids is None:  # as `generate` counts: padding takes no position
            inputs = inputs._replace(position_ids=counted(inputs.attention_mask))
        output = self.model(**inputs._asdict(), logits_to_keep=1, use_cache=False)
        return self._letters(output.logits[:, -1], batch, num_letters)

    def _letters(
        self, logits: torch.Tensor, batch: Sequence[Prepared], num_letters: int
    ) -> list[tuple[float, ...]]:
        """From the logits `[B, vocabulary]` of the token behind each prompt."""
        log_probabilities = logits.float().log_softmax(-1).cpu()
        spelled = [self._spelled(prompt, num_letters) for prompt in batch]
        return [
            _rounded(row[ids].logsumexp(0))
            for row, ids in zip(log_probabilities, spelled, strict=True)
        ]

    @memory_told()
    @torch.inference_mode()
    def generate(self, batch: Sequence[Prepared], max_new_tokens: int) -> list[str]:
        """Greedy replies."""
        inputs = self.batch(batch)
        sequences = self.model.generate(
            **inputs._asdict(),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=self._pad_id,
        )
        said = sequences[:, inputs.input_ids.shape[1] :]
        return self.processor.tokenizer.batch_decode(said, skip_special_tokens=True)

    def answer(
        self, batch: Sequence[Prepared], num_letters: int, max_new_tokens: int
    ) -> list[tuple[tuple[float, ...], str]]:
        """Letters and greedy replies; the logits that a reply begins with are the letters' own."""
        with first_logits(self.model) as seen:
            replies = self.generate(batch, max_new_tokens)
        letters = self._letters(seen[0], batch, num_letters)
        return list(zip(letters, replies, strict=True))

    @property
    def _pad_id(self) -> int:
        tokenizer = self.processor.tokenizer
        return next(i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None)

    @torch.inference_mode()
    def _encode(self, media: Sequence[Medium]) -> list[Embedded]:
        """What the encoder makes of media of one modality."""
        modality = media[0].modality
        token = str(self.processor.modalities[modality]["token"])
        prepared = preprocess(self.processor, media)
        made = self.model.embed_each(modality, [self._to_device(one.inputs) for one in prepared])
        written = [split_runs(one.text, token) for one in prepared]
        return [
            Embedded(embedding=embedding.cpu(), places=places.cpu(), text=text, runs=runs)
            for (embedding, places), (text, runs) in zip(made, written, strict=True)
        ]

    def _to_device(self, inputs: Inputs) -> Inputs:
        if isinstance(inputs, torch.Tensor):
            return inputs.to(self.model.device)
        return {name: tensor.to(self.model.device) for name, tensor in inputs.items()}

    def model_inputs(self, contents: Sequence[Content]) -> dict[str, torch.Tensor]:
        """What the processor itself makes of user turns, media read from their files."""
        inputs = self.processor.apply_chat_template(
            [_messages(content) for content in contents],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            processor_kwargs={"padding": True, "return_tensors": "pt"},
        )
        return cast(dict[str, torch.Tensor], inputs)

    def _check_modalities(self, prompts: Sequence[Prompt]) -> None:
        shown = {medium.modality for prompt in prompts for medium in prompt.media}
        if lacking := sorted(shown - self._placeholder_ids.keys()):
            raise EvaluationError(
                f"the task shows {', '.join(lacking)}, but this model has "
                f"{', '.join(self._placeholder_ids) or 'no modality'} only. "
                "Choose other --tasks or --modalities."
            )

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        tokenizer = self.processor.tokenizer
        bos = tokenizer.bos_token
        add = not (bos and texts and texts[0].startswith(bos))
        return tokenizer(texts, add_special_tokens=add)["input_ids"]

    def _written(self, prompt: Prompt, media: Sequence[Embedded | str]) -> str:
        """The prompt with its media as they are written; as it is where they cannot be."""
        known = self.processor.modalities
        written = [
            (str(known[medium.modality]["token"]), found.text)
            for medium, found in zip(prompt.media, media, strict=True)
            if isinstance(found, Embedded)
        ]
        return write_media(prompt.text, written) or prompt.text

    def _prepare_one(
        self, prompt: Prompt, token_ids: list[int], media: Sequence[Embedded | str]
    ) -> Prepared | Unreadable:
        embedded = []
        for found in media:
            if isinstance(found, str):
                return Unreadable(reason=found)
            embedded.append(found)
        counts = [
            (self._placeholder_ids[medium.modality], run)
            for medium, found in zip(prompt.media, embedded, strict=True)
            for run in found.runs
        ]
        expanded = expand_placeholders(token_ids, counts)
        self._check_prompt(prompt, expanded)
        return Prepared(
            prompt=prompt,
            token_ids=expanded or (),
            embeddings=tuple(found.embedding for found in embedded),
            places=tuple(found.places for found in embedded),
        )

    def _check_prompt(self, prompt: Prompt, token_ids: tuple[int, ...] | None) -> None:
        """Hold the first prompt of each kind against the processor's own."""
        kind = tuple(medium.modality for medium in prompt.media)
        if kind in self._checked and token_ids is not None:
            return
        expected = self.model_inputs([prompt.content])["input_ids"][0].tolist()
        if token_ids is None or list(token_ids) != expected:
            found = "other placeholders" if token_ids is None else f"{len(token_ids)} tokens"
            raise EvaluationError(
                f"a prompt with {'+'.join(kind) or 'no media'}: found {found}, expected the "
                f"{len(expected)} tokens that the processor makes of it. A question that spells a "
                "placeholder, or a chat template that places media otherwise, cannot be evaluated."
            )
        self._checked.add(kind)

    def _spelled(self, prompt: Prepared, num_letters: int) -> torch.Tensor:
        """Token ids `[spellings, options]` of what begins a reply behind a prompt."""
        beginnings = prompt.prompt.openings or tuple(LETTERS[:num_letters])
        # Nothing in front of a special token changes what is written behind it.
        tokenizer, last = self.processor.tokenizer, prompt.token_ids[-1]
        special = last in tokenizer.all_special_ids
        context = tokenizer.decode([last]) if special else prompt.prompt.text
        key = (context, *beginnings)
        if key not in self._spellings:
            ids = letter_token_ids(self._tokenize_again, context, beginnings)
            self._spellings[key] = torch.tensor(ids)
        return self._spellings[key]

    def _tokenize_again(self, text: str) -> list[int]:
        """The ids of a text that is asked for with many questions."""
        if text not in self._tokenized:
            self._tokenized[text] = self._tokenize([text])[0]
        return self._tokenized[text]


def _messages(content: Content) -> list[Message]:
    entries: list[Message] = [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": part.modality, "path": str(part.path)}
        for part in content
    ]
    return [{"role": "user", "content": entries}]


def _rounded(values: torch.Tensor) -> tuple[float, ...]:
    return tuple(round(value, DECIMALS) for value in values.tolist())
