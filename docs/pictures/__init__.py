"""The pictures of the pages: ``python -m docs.pictures`` draws each, light and dark."""
