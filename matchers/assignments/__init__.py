"""The results of matchers, hard and soft."""
