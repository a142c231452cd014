"""Pages that need no network: a template with its own style and script in it, and whatever is put in escaped."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup


def page_template(package: str, name: str) -> Template:
    """The template ``web/name.html`` of ``package``, with its ``name.css`` and ``name.js`` as ``css`` and ``js``."""
    web = files(package) / "web"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {
        kind: Markup((web / f"{name}.{kind}").read_text(encoding="utf-8")) for kind in ("css", "js")
    }
    return environment.from_string((web / f"{name}.html").read_text(encoding="utf-8"))
