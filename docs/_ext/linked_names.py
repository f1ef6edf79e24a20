"""Make links of names that are written as code, where they are public and clear.

A word in lower case is more often a parameter than the function of this name: it is left alone.
So is a class of another system, which may have the name of one of ours.
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

from docutils import nodes
from public_names import SHARED
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from docs.check_site import PACKAGES

# Columns of tables with these heads, and words after these names, are about other systems.
HEADS_OF_OTHERS = {"there", "you have", "original"}
SYSTEMS = re.compile(
    r"(OTX|mmdetection|DETR|transformers|cjm-yolox|super-gradients|uotod|Ultralytics|torchvision|ACCV-Lab)[^.;]*$"
)

# Parameters and attributes of these names are meant more often.
UNCLEAR = {"filler_value", "level_sizes", "sample_sizes", "weighting_function"}


class LinkNames(SphinxTransform):
    """Each name that is said as code becomes a reference to where it is documented."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        """Wrap the names of this document."""
        for node in list(self.document.findall(nodes.literal)):
            target = target_of(node.astext())
            if target is None or isinstance(
                node.parent, (pending_xref, nodes.reference, nodes.title)
            ):
                continue
            if is_of_another_system(node):
                continue
            link = pending_xref(
                "", refdomain="py", reftype="obj", reftarget=target, refdoc=self.env.docname
            )
            node.replace_self(link)
            link += node


def is_of_another_system(node: nodes.Node) -> bool:
    """Whether a word stands in the column of other systems, or behind the name of one."""
    entry = node.parent
    while entry is not None and not isinstance(entry, nodes.entry):
        entry = entry.parent
    if entry is not None:
        group = entry.parent.parent.parent
        heads = [head.astext().strip() for head in group.findall(nodes.thead)]
        row = next(iter(group.findall(nodes.row)))
        if heads and row[entry.parent.index(entry)].astext().strip() in HEADS_OF_OTHERS:
            return True
    before = node.parent[: node.parent.index(node)] if node.parent is not None else []
    return entry is None and bool(
        before and SYSTEMS.search("".join(each.astext() for each in before)[-40:])
    )


def target_of(text: str) -> str | None:
    """Where ``RaggedBatch``, ``combine_data(…)`` or ``Targets.of`` are documented."""
    text = text.partition("(")[0]
    if text.startswith(("ragged.", "matchers.", "losses.")):
        text = text.rpartition(".")[2]
    name, _, member = text.partition(".")
    if name in UNCLEAR or not (name[:1].isupper() or "_" in name):
        return None
    owner = OWNERS.get(name)
    if owner is None or not member:
        return owner and f"{owner}.{name}"
    value = getattr(importlib.import_module(owner), name)
    # Of a property, not of what it gives; members may come from a base that is not public.
    found = inspect.getattr_static(value, member, None) if isinstance(value, type) else None
    documented = getattr(found, "__doc__", None)
    return f"{owner}.{name}.{member}" if documented else None


def owners() -> dict[str, str]:
    """The package that each name is documented in."""
    found = {name: package for package, names in SHARED.items() for name in names}
    for package in reversed(PACKAGES):
        found |= dict.fromkeys(importlib.import_module(package).__all__, package)
    return found


OWNERS = owners()


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_transform(LinkNames)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
