"""Compose one omni-modal language model from separate experts, without training."""

from omnicompose._register import prepare_auto_classes

prepare_auto_classes()
