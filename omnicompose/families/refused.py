"""Architectures that are known and cannot be composed, each with the reason."""

CROSS_ATTENTION = (
    "its language model reads images through cross-attention layers of its own, which no other "
    "expert's backbone has"
)
MIXTURE = (
    "its language model is a mixture of experts with fused expert tensors, which cannot be merged "
    "with a dense backbone"
)
DEEPSTACK = (
    "its vision tower adds features to several layers of the language model (deepstack), not only "
    "at the placeholders"
)
BIDIRECTIONAL = (
    "its language model attends in both directions inside an image block, which a causal composite "
    "does not do"
)
STREAMING = (
    "it adds a sound's embeddings to those of the words it is writing, one per step, instead of "
    "putting them in the prompt"
)
ORIGINALS: dict[str, str] = {
    "LlavaLlamaForCausalLM": "LlavaForConditionalGeneration or LlavaNextForConditionalGeneration",
    "LlavaMistralForCausalLM": "LlavaNextForConditionalGeneration",
    "LlavaQwenForCausalLM": "LlavaOnevisionForConditionalGeneration",
    "InternVLChatModel": "InternVLForConditionalGeneration",
    "Videollama3Qwen2ForCausalLM": "VideoLlama3ForConditionalGeneration",
    "Ovis": "Ovis2ForConditionalGeneration",
    "QWenLMHeadModel": "Qwen2AudioForConditionalGeneration",
}
"""Classes of code that comes with a checkpoint, and the class of transformers that replaces it."""
Q_FORMER_MODELS = "its Q-Former feeds OPT or T5, language models that are not mapped here"
CODEBOOK = "it reads or writes pictures as tokens of a codebook, which its head has to know"

COMPOSED = (
    "it is a composite already; compose the experts that it was made from, which its manifest.json "
    "names"
)

REFUSED: dict[str, str] = {
    "MllamaForConditionalGeneration": CROSS_ATTENTION,
    "Qwen3VLForConditionalGeneration": DEEPSTACK,
    "Qwen3VLMoeForConditionalGeneration": DEEPSTACK,
    "Qwen3OmniMoeForConditionalGeneration": MIXTURE,
    "Qwen3OmniMoeThinkerForConditionalGeneration": MIXTURE,
    "AriaForConditionalGeneration": MIXTURE,
    "Llama4ForConditionalGeneration": MIXTURE,
    "Glm4vMoeForConditionalGeneration": MIXTURE,
    "PaliGemmaForConditionalGeneration": BIDIRECTIONAL,
    "Gemma3ForConditionalGeneration": BIDIRECTIONAL,
    "Gemma3nForConditionalGeneration": BIDIRECTIONAL,
    "Gemma4ForConditionalGeneration": BIDIRECTIONAL,
    "VoxtralRealtimeForConditionalGeneration": STREAMING,
    "Blip2ForConditionalGeneration": Q_FORMER_MODELS,
    "InstructBlipForConditionalGeneration": Q_FORMER_MODELS,
    "Emu3ForConditionalGeneration": CODEBOOK,
    "JanusForConditionalGeneration": CODEBOOK,
    "OmniComposeForConditionalGeneration": COMPOSED,
}
"""Class name to why."""
