"""Aligning: a model is rewritten so that it can be merged with another (`align.align`)."""
