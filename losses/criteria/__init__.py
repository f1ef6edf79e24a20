"""The criteria: one in each module."""
