"""What a kit says: what it checked, and the smallest scene that breaks a property, as code."""
