"""The HTML around the story: template, script, style, and the policy that lets nothing else run or load.

Everything from outside goes through Jinja's escaping or ElementTree's. On top of it the page's own
Content-Security-Policy allows exactly the one script that is written here, by its digest.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from harness.core.findings import Finding
from harness.core.text import printable

NOWHERE = "base-uri 'none'; form-action 'none'"


def render(template: str, values: Mapping[str, Any]) -> str:
    """The page of a template. Strings among ``values`` are escaped, and what would not show is written out."""
    environment = Environment(
        loader=PackageLoader("harness.reporting.page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalise,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    script = _own("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; {NOWHERE}"
    common = {"policy": policy, "script": Markup(script), "style": Markup(_own("page.css"))}
    return environment.get_template(template).render({**common, **values})


def breakable(text: str) -> Markup:
    """``text``, escaped, with places where a long name may best be broken: behind ``:``, ``,``, ``/``, ``?`` and ``&``."""
    return Markup(re.sub(r"(&amp;|[:,/?])", r"\1<wbr>", str(escape(printable(text)))))


def _finalise(value: object) -> object:
    if isinstance(value, Finding):
        return printable(value)
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return printable(value)


def _own(name: str) -> str:
    return files("harness.reporting.page").joinpath("templates", name).read_text(encoding="utf-8").strip()
