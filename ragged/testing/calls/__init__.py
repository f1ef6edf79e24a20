"""What is known of an operation that is checked: the tensors that it holds, and what earlier examples have shown."""
