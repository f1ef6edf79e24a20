"""One file for each criterion."""
