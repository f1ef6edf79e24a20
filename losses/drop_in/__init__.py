"""Criteria in the place of the losses of other packages, called as those are; none of the packages is imported."""
