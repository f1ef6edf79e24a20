"""The pictures of the documentation: ``python -m docs.pictures`` draws each of them for light and dark pages."""
