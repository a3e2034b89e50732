"""A composite behind a chat page and an OpenAI-compatible endpoint, on this machine only."""

from omnicompose.serving.limits import ServingOptions
from omnicompose.serving.serve import serve

__all__ = ["ServingOptions", "serve"]
