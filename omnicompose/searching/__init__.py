"""Searching: coefficients of a merge from data or from a fitness (`search.searched`)."""
