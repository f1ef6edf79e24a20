"""A directive for a picture that comes in two colours, one for light and one for dark pages."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Picture(SphinxDirective):
    """``{picture} NAME``, with what it shows as text: the caption, and what is read aloud."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Two images, of which the theme shows one, and one caption."""
        caption = " ".join(self.content)
        figure = nodes.figure(classes=["picture"])
        for theme in ("light", "dark"):
            uri = f"/_static/pictures/{self.arguments[0]}-{theme}.svg"
            figure += nodes.image(uri=uri, alt=caption, classes=[f"only-{theme}"])
        words, messages = self.state.inline_text(caption, self.lineno)
        figure += nodes.caption(caption, "", *words)
        return [figure, *messages]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("picture", Picture)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
