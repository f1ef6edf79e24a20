"""What every matcher promises, each promise a function that raises if it is broken."""
