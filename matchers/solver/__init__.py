"""The exact linear assignment problem."""
