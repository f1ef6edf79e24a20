"""Criteria of detection transformers."""
