"""Matchers that minimise a cost, hard and soft."""
