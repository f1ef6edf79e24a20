"""Matchers and criteria as users write them, right ones, and the bugs that they may have."""
