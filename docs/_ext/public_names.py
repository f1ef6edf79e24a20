"""A directive for the public names of a package: a table of them, docstrings below.

Names are documented where they are imported from (``ragged.RaggedBatch``), not where they are
written (``ragged.batch.ragged_batch.RaggedBatch``); references by type hints are led there.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

from docs.check_site import PACKAGES

# What docstrings refer to, though it is imported from the module that makes it.
SHARED = {
    "matchers.geometry.boxes": ("Coordinates",),
    "matchers.by_cost.cost_matcher": ("CostMatcher", "IgnoringMatcher"),
    "matchers.by_cost.dense_matcher": ("DenseMatcher",),
    "matchers.dense.dynamic_k": ("DynamicK",),
    "matchers.transport.sinkhorn": ("TransportMatcher",),
    "losses.core.terms": ("Term",),
}
COLON = "\ue000"  # stands for one for a while
ELSEWHERE = (
    "torch.",
    "numpy.",
    "collections.",
    "typing.",
    "matplotlib.",
    "hypothesis.",
    "pathlib.",
    "contextlib.",
)


class PublicNames(SphinxDirective):
    """``{public-names} PACKAGE``, with one name in a line."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """A table of the names, then each of them."""
        package = self.arguments[0]
        names = [line.strip() for line in self.content if line.strip()]
        text = [f".. py:currentmodule:: {package}", ""]
        if len(names) > 1:
            text += [".. list-table::", "   :class: names", "   :widths: 1 2", ""]
            for name in names:
                text += [
                    f"   * - :py:obj:`~{package}.{name}`",
                    f"     - {summary(package, name)}",
                ]
        for name in names:
            text += ["", *documented(package, name)]
        text = ["`````{eval-rst}", *text, "`````"]  # the page itself is Markdown
        node = nodes.section()
        node.document = self.state.document
        source = self.get_source_info()[0]
        self.state.nested_parse(StringList(text, source=source), self.content_offset, node)
        return node.children


def documented(package: str, name: str) -> list[str]:
    """What autodoc needs to document a name; the text of a constant, it would not find."""
    value = getattr(importlib.import_module(package), name)
    if inspect.isclass(value):
        kind = "exception" if issubclass(value, Exception) else "class"
        lines = [f".. auto{kind}:: {package}.{name}", "   :members:"]
        if name == "RaggedBatch":  # has shorthands from a class of its own
            lines.append("   :inherited-members:")
        if any(base in public_objects() for base in value.__bases__):
            lines.append("   :show-inheritance:")
        return lines
    if inspect.isroutine(value):
        return [f".. autofunction:: {package}.{name}"]
    return [f".. py:data:: {name}", "", f"   {text_of_constant(package, name)}"]


def summary(package: str, name: str) -> str:
    """The first paragraph of the docstring."""
    value = getattr(importlib.import_module(package), name)
    text = inspect.getdoc(value) if callable(value) else text_of_constant(package, name)
    return " ".join((text or "").split("\n\n")[0].split())


def text_of_constant(package: str, name: str) -> str:
    """The string that follows a constant in the module that makes it."""
    tree = ast.parse(inspect.getsource(importlib.import_module(package)))
    imports = (node for node in tree.body if isinstance(node, ast.ImportFrom))
    module = next(node.module for node in imports if name in (each.name for each in node.names))
    texts = ModuleAnalyzer.for_module(str(module)).find_attr_docs()
    if ("", name) not in texts:
        raise LookupError(f"{module}.{name} has no string that says what it is")
    return " ".join(texts["", name]).strip()


def public_objects() -> dict[Any, str]:
    """Where each public class or function is documented."""
    found: dict[Any, str] = {}
    names = {package: importlib.import_module(package).__all__ for package in PACKAGES}
    for package, own in (names | SHARED).items():
        module = importlib.import_module(package)
        for name in own:
            value = getattr(module, name)
            if callable(value):
                found.setdefault(value, f"{package}.{name}")
    return found


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | nodes.TextElement | None:
    """Lead ``….RaggedBatch`` to ``ragged.RaggedBatch``; others are plain text."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    if "." not in target or target.startswith(ELSEWHERE):
        return content
    module, _, name = target.rpartition(".")
    try:
        value = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return None
    public = public_objects().get(value) if callable(value) else None
    if public is None:
        return content  # of ours, but not public
    if public == target:
        return None
    domain = env.domains.python_domain
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", public, node, content)


def before_napoleon(
    app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Keep what a property or result is ("(B, P): positive") from being read as a type."""
    of_result = what == "property"
    for number, line in enumerate(lines):
        if what != "property" and line and not line.startswith(" "):
            of_result = line == "Returns:"
        elif of_result:
            lines[number] = line.replace(":", COLON)


def after_napoleon(
    app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Keep a shape letter ("num_classes: C.") from being the first item of a list."""
    lines[:] = [
        re.sub(r"^(\s*(?::\w+ \w+: )?)([A-Z]\.)(?= |$)", r"\1\\\2", line) for line in lines
    ]
    lines[:] = [line.replace(COLON, ":") for line in lines]


def plain_callables(
    app: Sphinx,
    what: str,
    name: str,
    value: Any,
    options: Any,
    signature: str | None,
    annotation: str | None,
) -> tuple[str | None, str | None]:
    """Write ``Callable[..., Tensor]`` as it is written in code, and made defaults as "..."."""

    def plain(part: str | None) -> str | None:
        return part and part.replace("[[...], ", "[..., ").replace("<factory>", "...")

    return plain(signature), plain(annotation)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("public-names", PublicNames)
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-signature", plain_callables)
    # Napoleon makes fields of the sections in between, at 500.
    app.connect("autodoc-process-docstring", before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", after_napoleon, priority=600)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
