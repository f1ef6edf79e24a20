"""What all criteria are made of."""
