"""Look for what is wrong in a site: ``python docs/check_site.py FOLDER``.

Broken links, missing public names, text that was read as something else, and words that the
search does not find.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

PACKAGES = (
    "ragged",
    "matchers",
    "losses",
    "ragged.testing",
    "matchers.testing",
    "losses.testing",
)


QUESTIONS = (
    "gradient accumulation",
    "mixed precision",
    "nan",
    "empty images",
    "ignore",
    "class weights",
    "multi gpu",
    "custom loss",
)
"""What people search for: each must lead to a page that is no reference, by all its words."""


@dataclass
class Page(HTMLParser):
    """What a page refers to, and what can be referred to in it."""

    references: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    lettered_lists: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note links, sources, anchors, and lists that count in letters."""
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.references.append(value)
            elif tag == "ol" and name == "class" and value and "alpha" in value:
                self.lettered_lists += 1


def read(folder: Path) -> dict[Path, Page]:
    """All pages of a site."""
    pages = {}
    for path in sorted(folder.rglob("*.html")):
        pages[path.resolve()] = page = Page()
        page.feed(path.read_text(encoding="utf-8"))
    return pages


def broken(pages: dict[Path, Page]) -> list[str]:
    """References within the site that lead nowhere."""
    found = []
    for path, page in pages.items():
        for reference in page.references:
            parts = urlsplit(reference)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            exists = target.exists()
            if exists and parts.fragment and target in pages:
                exists = unquote(parts.fragment) in pages[target].anchors
            if not exists:
                found.append(f"{path.name}: {reference} leads nowhere")
    return found


def missing(pages: dict[Path, Page]) -> list[str]:
    """Public names without an entry in the reference."""
    anchors = set().union(*(page.anchors for page in pages.values()))
    names = [
        f"{package}.{name}"
        for package in PACKAGES
        for name in importlib.import_module(package).__all__
    ]
    print(f"{len(pages)} pages, {len(names)} public names")
    return [f"{name} is not in the reference" for name in names if name not in anchors]


def misread(pages: dict[Path, Page]) -> list[str]:
    """A shape letter alone ("C.") that was read as an item of a list."""
    return [
        f"{path.name}: {page.lettered_lists} lists count in letters"
        for path, page in pages.items()
        if page.lettered_lists
    ]


def unfound(folder: Path) -> list[str]:
    """Questions without a page that has all their words in its titles."""
    index = folder / "searchindex.js"
    if not index.exists():
        return ["there is no index of the search"]
    content = json.loads(
        re.search(r"\{.*\}", index.read_text(encoding="utf-8"), re.DOTALL).group()
    )
    return [
        f"the search does not find {words!r}"
        for words in QUESTIONS
        if not answers(content, words)
    ]


def answers(content: dict[str, Any], words: str) -> list[str]:
    """The pages that have all words in their titles, of the page and of sections."""
    found: list[set[int]] = []
    for word in words.split():
        pages: set[int] = set()
        for stem, places in content["titleterms"].items():
            # The index has stems: "accumul" for "accumulation", "empti" for "empty".
            if word.startswith(stem.removesuffix("i")) and len(stem) >= len(word) - 5:
                pages |= {places} if isinstance(places, int) else set(places)
        found.append(pages)
    names = [content["docnames"][page] for page in set.intersection(*found)]
    return [name for name in names if not name.startswith("reference/")]


def main(folder: Path) -> int:
    """Print what is wrong; 1 if anything is."""
    pages = read(folder)
    problems = ["there is no page"]
    if pages:
        problems = broken(pages) + missing(pages) + misread(pages) + unfound(folder)
    print(
        "\n".join(problems)
        or "no broken link, no missing name, no misread letter; the search finds all"
    )
    return bool(problems)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    sys.exit(main(Path(sys.argv[1])))
