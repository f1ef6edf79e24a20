"""What it costs to match a target with a prediction."""
