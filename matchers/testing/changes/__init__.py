"""The same scene, written down in another way."""
