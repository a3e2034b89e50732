"""Tuning: search the coefficients of the text side, with labels or without (`tune.tune`)."""
