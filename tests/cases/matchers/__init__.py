"""One file for each matcher, or for those that share a file in ``matchers`` as well."""
