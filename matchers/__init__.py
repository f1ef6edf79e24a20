"""Matchers: which prediction answers for which target. Builds on ``ragged``; never differentiates."""

__all__: list[str] = []
