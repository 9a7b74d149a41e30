"""The fixtures that labkit gives to pytest, with what their docstrings say.

A fixture is no function any more by the time that autodoc could look at it, so the plugin's
syntax tree is read.
"""

from __future__ import annotations

import ast
import inspect

from .markdown import code
from .paths import REPO

PLUGIN = REPO / "labkit" / "pytest_plugin.py"


def listed() -> str:
    """Each fixture with its scope and its meaning; a sentence where there is no plugin."""
    if not PLUGIN.exists():
        return "This version brings none."
    tree = ast.parse(PLUGIN.read_text(encoding="utf-8"))
    parts = []
    for node in tree.body:
        scope = _scope(node)
        if scope and isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            meaning = inspect.cleandoc(ast.get_docstring(node) or "").replace("``", "`")
            parts.append(f"### {code(node.name)}\n\n*Scope: {scope}.* {meaning}")
    return "\n\n".join(parts)


def _scope(node: ast.stmt) -> str:
    """How long a fixture lives; "" for what is none."""
    for decorator in getattr(node, "decorator_list", []):
        call = decorator.func if isinstance(decorator, ast.Call) else decorator
        if ast.unparse(call).endswith("fixture"):
            words = decorator.keywords if isinstance(decorator, ast.Call) else []
            scopes = [word.value for word in words if word.arg == "scope"]
            return str(ast.literal_eval(scopes[0])) if scopes else "function"
    return ""
