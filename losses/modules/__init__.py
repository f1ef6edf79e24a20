"""Losses as modules: what criteria and matchers are configured with."""
