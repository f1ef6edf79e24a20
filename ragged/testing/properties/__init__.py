"""One property of an operation in each module."""
