"""Compose one omni-modal language model from separate experts, without training."""
