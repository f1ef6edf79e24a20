"""Side-by-side speed of the toolkit: ``python -m benchmarks``. Never part of the test run."""
