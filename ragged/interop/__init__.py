"""Batches among others: data loaders, nested tensors, pytrees, files."""
