"""Experts: opened by headers, never read until a plan says so."""
