"""What all else is checked and computed with: numbers, sizes, filler. Knows no ``RaggedBatch``."""
