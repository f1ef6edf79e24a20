"""What matchers return, hard and soft."""
