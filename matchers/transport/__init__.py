"""Soft matching by optimal transport."""
