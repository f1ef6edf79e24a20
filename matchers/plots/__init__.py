"""Pictures of a match and of its costs. They need matplotlib; no matcher imports this room."""
