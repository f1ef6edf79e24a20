"""Losses of two-stage detectors: of the network that proposes boxes, and of the head that looks at each of them."""
