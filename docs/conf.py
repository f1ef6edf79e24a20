"""Settings of the site: ``python -m sphinx -W --keep-going -b html docs docs/_build``.

If ``[project.urls]`` has a ``Repository``, every page links to it. The environment variable
``DOCS_VERSIONS`` lists versions in the navigation: ``"0.1=../0.1/ main=../main/"``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import tomllib

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

from ragged import __version__  # noqa: E402 - the package of this checkout

project = "ragged-batch"
author = "The ragged-batch developers"
copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "public_names",
    "linked_names",
    "picture",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "_ext", "_templates", "pictures", "**.py"]
root_doc = "index"
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist", "attrs_block"]
myst_heading_anchors = 3
# Equal words are equal classes: `text` fences show what was printed, and are no language.
highlight_language = "python"
pygments_style = "friendly"
pygments_dark_style = "github-dark"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 76
python_trailing_comma_in_multi_line_signatures = True
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Source"]

html_theme = "furo"
html_title = f"ragged-batch {version}"
html_static_path = ["_static"]
templates_path = ["_templates"]
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/versions.html",
        "sidebar/scroll-end.html",
    ]
}
html_context: dict[str, Any] = {
    "versions": [each.split("=", 1) for each in os.environ.get("DOCS_VERSIONS", "").split()]
}
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options: dict[str, Any] = {
    "light_css_variables": {
        "color-brand-primary": "#0b5cad",
        "color-brand-content": "#0b5cad",
    },
    "dark_css_variables": {
        "color-brand-primary": "#7cb7ff",
        "color-brand-content": "#7cb7ff",
    },
}

urls = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"].get("urls", {})
if "Repository" in urls:
    html_theme_options |= {
        "source_repository": urls["Repository"],
        "source_branch": "main",
        "source_directory": "docs/",
    }
