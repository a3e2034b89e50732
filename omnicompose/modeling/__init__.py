"""The composite as transformers knows it; importing this registers it with the Auto classes."""

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
    AutoVideoProcessor,
)

from omnicompose.modeling.configuration_omnicompose import OmniComposeConfig
from omnicompose.modeling.feature_extraction_fbank import KaldiFbankFeatureExtractor
from omnicompose.modeling.image_processing_padded import PaddedImageProcessor
from omnicompose.modeling.modeling_omnicompose import (
    OmniComposeForConditionalGeneration,
    OmniComposeModel,
    OmniComposePreTrainedModel,
    suppress_placeholders,
)
from omnicompose.modeling.processing_omnicompose import OmniComposeProcessor
from omnicompose.modeling.video_processing_languagebind import LanguageBindVideoProcessor

__all__ = [
    "KaldiFbankFeatureExtractor",
    "LanguageBindVideoProcessor",
    "OmniComposeConfig",
    "OmniComposeForConditionalGeneration",
    "OmniComposeModel",
    "OmniComposePreTrainedModel",
    "OmniComposeProcessor",
    "PaddedImageProcessor",
    "suppress_placeholders",
]

# exist_ok: a self-contained folder that was loaded with remote code registers the same names.
AutoConfig.register(OmniComposeConfig.model_type, OmniComposeConfig, exist_ok=True)
AutoModel.register(OmniComposeConfig, OmniComposeModel, exist_ok=True)
AutoProcessor.register(OmniComposeConfig, OmniComposeProcessor, exist_ok=True)
AutoFeatureExtractor.register(OmniComposeConfig, KaldiFbankFeatureExtractor, exist_ok=True)
AutoImageProcessor.register(
    OmniComposeConfig,
    image_processor_classes=dict.fromkeys(("pil", "torchvision"), PaddedImageProcessor),
    exist_ok=True,
)
AutoVideoProcessor.register(OmniComposeConfig, LanguageBindVideoProcessor, exist_ok=True)
for _auto_class in (AutoModelForMultimodalLM, AutoModelForImageTextToText, AutoModelForCausalLM):
    _auto_class.register(OmniComposeConfig, OmniComposeForConditionalGeneration, exist_ok=True)
