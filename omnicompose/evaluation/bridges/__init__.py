"""Bridges to the two big harnesses: their tasks on our models, our results in their files.

Installed beside lmms-eval, the plugin is found by its entry point (`--model omnicompose`); lm-eval
knows no entry points and is called through `python -m omnicompose.evaluation.bridges.lm`.
"""
