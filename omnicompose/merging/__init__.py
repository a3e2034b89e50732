"""Merging methods, and the engine that runs them over tensors of any number and size."""
