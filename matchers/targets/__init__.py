"""Ground truth, and the layouts that it is read from."""
