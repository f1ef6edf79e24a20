"""Functions of batches: indexing, masks, reductions, and putting samples together."""
