"""What learns: a causal language model, the connectors in front of it, and its adapters."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from omnicompose.modalities import MODALITIES
from omnicompose.streams import RoutingSlot, make_routing
from omnicompose.training.chats import Batch


class Learner(nn.Module):
    """The loss of a batch of chats.

    Computes what a composite computes: connector outputs take the placeholders' places among the
    token embeddings, and with streams each modality's tokens use their own weights.
    """

    def __init__(
        self,
        language_model: PreTrainedModel,
        connectors: Mapping[str, nn.Module],
        slot: RoutingSlot | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            language_model: a causal language model, perhaps decoupled.
            connectors: modality to the module that turns its features into embeddings.
            slot: where the model's decoupled layers learn their routing; None: all tokens alike.
        """
        super().__init__()
        self.language_model = language_model
        self.connectors = nn.ModuleDict(connectors)
        self.slot = slot

    def forward(self, batch: Batch) -> torch.Tensor:
        """Mean cross entropy, in nats, of the tokens that the assistant says."""
        said = batch.answers[:, 1:]
        logits: torch.Tensor = self.language_model.lm_head(self.hidden_states(batch)[:, :-1][said])
        return F.cross_entropy(logits, batch.input_ids[:, 1:][said])

    def hidden_states(self, batch: Batch) -> torch.Tensor:
        """The language model's last hidden states `[B, L, D]`.

        Padding lies on the right and attention is causal, so nothing needs to be masked.
        """
        embeddings = self.embeddings(batch)
        if self.slot is None:
            return self._run(embeddings)
        with self.slot.using(make_routing(batch.type_ids)):
            return self._run(embeddings)

    def embeddings(self, batch: Batch) -> torch.Tensor:
        """Token embeddings `[B, L, D]` with media embeddings at the placeholders."""
        is_text = batch.type_ids == 0
        # A placeholder need not have a row in the embedding matrix.
        words = torch.where(is_text, batch.input_ids, torch.zeros_like(batch.input_ids))
        embeddings: torch.Tensor = self.language_model.get_input_embeddings()(words)
        for name, features in batch.features.items():
            here = batch.type_ids == MODALITIES[name].token_type_id
            media = self.connectors[name](features).flatten(0, 1)
            embeddings = embeddings.masked_scatter(here[..., None], media.to(embeddings.dtype))
        return embeddings

    def _run(self, embeddings: torch.Tensor) -> torch.Tensor:
        outputs = self.language_model.model(inputs_embeds=embeddings, use_cache=False)
        hidden: torch.Tensor = outputs.last_hidden_state
        return hidden
