"""Checks and helpers for numbers, sizes and filler, without a ``RaggedBatch``."""
