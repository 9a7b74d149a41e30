"""The site: README, the lessons as they were last run, guides, reference.  ``make docs``.

Every page is a file that is also read by itself: README.md, ARCHITECTURE.md, the notebooks,
``docs/*.md``.  So the source folder is the repository, links between these files are links
between pages, and a link to any other file is a download.  What is made by the build stands
in ``pages/``.  Nothing is fetched, by the build or by a reader's browser.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

_HERE = Path(__file__).parent
sys.path.insert(0, str(_HERE))  # Sphinx finds its extensions by importing them: pages/

_PROJECT = tomllib.loads((_HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = "GitOps secrets lab"
version = release = _PROJECT["version"]
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_copybutton", "pages"]
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "notebooks/*.ipynb"]
exclude_patterns = [
    ".*",
    "artifacts",
    "bench",
    "binder",
    "build",
    "course",
    "dist",
    "labkit",
    "manifests",
    "tests",
]

# -- Markdown and notebooks -----------------------------------------------------------

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # no widget is stored, and these come from afar

# -- Python ---------------------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
add_module_names = False
nitpicky = True
# The reference documents what notebooks use, and mentions types of other packages, whose
# lists of names would have to be fetched.
nitpick_ignore_regex = [("py:.*", ".*")]

# -- HTML -----------------------------------------------------------------------------

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_show_copyright = False
copybutton_exclude = ".linenos, .gp, .go"
