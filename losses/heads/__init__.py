"""Reads the outputs of models."""
