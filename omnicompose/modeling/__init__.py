"""The composite as transformers knows it; importing this registers it with the Auto classes."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
)

from omnicompose.modeling.configuration_omnicompose import OmniComposeConfig
from omnicompose.modeling.modeling_omnicompose import (
    OmniComposeForConditionalGeneration,
    OmniComposeModel,
    OmniComposePreTrainedModel,
    suppress_placeholders,
)
from omnicompose.modeling.processing_omnicompose import OmniComposeProcessor

__all__ = [
    "OmniComposeConfig",
    "OmniComposeForConditionalGeneration",
    "OmniComposeModel",
    "OmniComposePreTrainedModel",
    "OmniComposeProcessor",
    "suppress_placeholders",
]

# exist_ok: a self-contained folder that was loaded with remote code registers the same names.
AutoConfig.register(OmniComposeConfig.model_type, OmniComposeConfig, exist_ok=True)
AutoModel.register(OmniComposeConfig, OmniComposeModel, exist_ok=True)
AutoProcessor.register(OmniComposeConfig, OmniComposeProcessor, exist_ok=True)
for _auto_class in (AutoModelForMultimodalLM, AutoModelForImageTextToText, AutoModelForCausalLM):
    _auto_class.register(OmniComposeConfig, OmniComposeForConditionalGeneration, exist_ok=True)
