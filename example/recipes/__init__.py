"""Losses of targets that are more than boxes and labels, each in a file of its own to copy from."""
