"""Training: chats with media in, a language model with connectors and adapters out."""

from omnicompose.training.chats import Batch, Chat, Media, collate
from omnicompose.training.learner import Learner
from omnicompose.training.loop import Group, Schedule, fit

__all__ = ["Batch", "Chat", "Group", "Learner", "Media", "Schedule", "collate", "fit"]
