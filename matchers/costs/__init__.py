"""The cost of a match of a target with a prediction."""
