"""The README as a package index shows it: without links to files of the repository, which the index does not have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_PICTURE = re.compile(r"<picture>.*?</picture>\n*", re.DOTALL)
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)([^)]+)\)")
_SOURCE = re.compile(r'(srcset|src)="(?!https?:)([^"]+)"')


class IndexReadme(MetadataHookInterface):
    """Makes the field ``readme`` of the metadata, which ``pyproject.toml`` declares as dynamic."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the README; links are absolute if ``[project.urls]`` has a ``Repository``."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        repository = metadata.get("urls", {}).get("Repository")
        metadata["readme"] = {"content-type": "text/markdown", "text": for_index(text, repository)}


def for_index(text: str, repository: str | None = None) -> str:
    """Markdown without relative references.

    With a repository, links and pictures lead to its branch ``main``. Without one, a link becomes its words and the
    path of the file, and pictures are left out.
    """
    if repository:
        base = repository.rstrip("/")
        text = _SOURCE.sub(rf'\1="{base}/raw/main/\2"', text)
        return _LINK.sub(rf"[\1]({base}/blob/main/\2)", text)
    return _LINK.sub(_words, _PICTURE.sub("", text))


def _words(link: re.Match[str]) -> str:
    words, path = link.group(1), link.group(2).partition("#")[0]
    return words if words == path else f"{words} (`{path}`)"
