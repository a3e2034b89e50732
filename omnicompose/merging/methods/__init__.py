"""Merging methods: one a file, each with its formula, its paper and where references differ."""
