"""Label assignment of dense detectors: rules that give a target several predictions."""
