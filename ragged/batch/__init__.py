"""``RaggedBatch``: its fields, its methods, and what torch functions do with it."""
