"""What a matcher works on: the images of a call, and pairs of a target with predictions."""
