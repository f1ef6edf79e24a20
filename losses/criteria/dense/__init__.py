"""Criteria of dense heads."""
