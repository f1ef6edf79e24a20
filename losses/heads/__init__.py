"""What models hand over, read."""
