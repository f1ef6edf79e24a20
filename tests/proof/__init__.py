"""What is proved of the toolkit, counted."""
