"""Boxes, their overlaps, and the places that dense detectors predict from."""
