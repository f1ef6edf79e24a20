"""The input of a matcher: the images of a call, and pairs of a target with predictions."""
