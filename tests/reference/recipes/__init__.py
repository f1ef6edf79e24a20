"""The losses of ``example/recipes``, in plain loops over samples, layers, groups and frames."""
