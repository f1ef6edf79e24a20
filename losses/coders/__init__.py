"""Boxes relative to priors, as a network predicts them, and back."""
