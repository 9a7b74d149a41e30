"""Read manifests: YAML text into objects, with an error that names the line.

Applying them is left to ``client``; what a kind means, to the cluster.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from labkit.errors import ManifestError
from labkit.kube._text import short
from labkit.kube.objects import Object


def load_manifests(path: Path) -> list[Object]:
    """The objects of a YAML file, or of every ``*.yaml`` in a folder, in name order.

    Raises ManifestError with the line number when a file is not YAML, or an object has
    no apiVersion, kind or metadata.name.
    """
    if not path.exists():
        raise ManifestError(
            f"There is no manifest {path}", todo="Check the path; it is taken from where you are."
        )
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    return [obj for file in files for obj in parse_manifests(_read_text(file), str(file))]


def parse_manifests(text: str, source: str) -> list[Object]:
    """The objects of a YAML text; ``source`` names it in errors (see load_manifests)."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        documents = [doc for doc in yaml.load_all(text, Loader=loader) if doc is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        raise ManifestError(
            f"{source} is not valid YAML ({where})",
            seen=str(error.problem or error.context or "a syntax error"),
            todo="YAML indents with spaces, two a level; mend that line and apply again.",
        ) from error
    except yaml.YAMLError as error:
        raise ManifestError(f"{source} is not valid YAML", seen=short(error)) from error
    objects: list[Object] = []
    for number, document in enumerate(documents, 1):
        if isinstance(document, dict) and document.get("kind") == "List":
            objects += document.get("items") or []
            continue
        lacks = [
            field
            for field, value in (
                ("apiVersion", isinstance(document, dict) and document.get("apiVersion")),
                ("kind", isinstance(document, dict) and document.get("kind")),
                (
                    "metadata.name",
                    isinstance(document, dict)
                    and isinstance(document.get("metadata"), dict)
                    and document["metadata"].get("name"),
                ),
            )
            if not value
        ]
        if lacks:
            raise ManifestError(
                f"Document {number} of {source} is not a Kubernetes object",
                seen=f"it has no {', '.join(lacks)}",
                todo="Every object names its apiVersion, kind and metadata.name.",
            )
        objects.append(document)
    if not objects:
        raise ManifestError(f"{source} holds no Kubernetes object", todo="Is it the right file?")
    return objects


def _read_text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{file} cannot be read", seen=short(error)) from error
