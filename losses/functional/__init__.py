"""Losses as functions, unreduced."""
