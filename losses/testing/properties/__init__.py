"""What every criterion promises, each promise a function of a case that raises if it is broken."""
