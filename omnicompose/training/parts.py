"""Training: chats with media in, a language model with connectors and adapters out."""

from omnicompose.training.chats import Batch, Chat, Media, collate
from omnicompose.training.fitting import Group, Schedule, fit
from omnicompose.training.learner import Learner

__all__ = ["Batch", "Chat", "Group", "Learner", "Media", "Schedule", "collate", "fit"]
