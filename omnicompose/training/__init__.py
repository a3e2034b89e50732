"""Training: chats with media in, a language model with connectors and adapters out."""

from omnicompose.training.chats import Batch, Chat, Media, collate
from omnicompose.training.learner import Learner
from omnicompose.training.loop import Schedule, fit

__all__ = ["Batch", "Chat", "Learner", "Media", "Schedule", "collate", "fit"]
