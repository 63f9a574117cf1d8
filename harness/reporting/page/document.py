"""The HTML around the story: templates, scripts, styles, and the policy that lets nothing else run or load.

Everything from outside goes through Jinja's escaping or into JSON blocks in which no ``<`` is left. On top of it the
page's own Content-Security-Policy allows exactly the scripts that are written here, by their digests.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from bokeh.embed import json_item
from bokeh.resources import Resources
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from harness.core.findings import Finding
from harness.core.text import printable
from harness.reporting.page.canvas import DARK
from harness.reporting.page.timeline import KIND_LOOKS

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
    scripts = [_bokeh(), _own("page.js")]
    digests = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts)
    policy = f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data: blob:; {NOWHERE}"
    common = {
        "policy": policy,
        "scripts": [Markup(text) for text in scripts],
        "style": Markup(_own("page.css")),
        "settings": json_block({"dark": DARK, "kinds": KIND_LOOKS}),
    }
    return environment.get_template(template).render({**common, **values})


def json_block(value: object) -> Markup:
    """JSON for a script element of type application/json: nothing in it can end the element or begin a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def figure_block(plot: Any) -> Markup:
    """A Bokeh figure as a block of JSON."""
    return json_block(json_item(plot))


def picture(stem: str, pictures: Sequence[Path]) -> Markup | None:
    """The static picture of that name as a data URL: PNG or SVG, whichever is smaller; None where there is none."""
    found = sorted((file for file in pictures if file.stem == stem), key=lambda file: file.stat().st_size)
    if not found:
        return None
    kind = {".png": "image/png", ".svg": "image/svg+xml"}[found[0].suffix]
    return Markup(f"data:{kind};base64,{base64.b64encode(found[0].read_bytes()).decode()}")


def breakable(text: str) -> Markup:
    """``text``, escaped, with places where a long name may best be broken: behind ``:``, ``,``, ``/``, ``?`` and ``&``."""
    return Markup(re.sub(r"(&amp;|[:,/?])", r"\1<wbr>", str(escape(printable(text)))))


def _finalise(value: object) -> object:
    if isinstance(value, Finding):
        return printable(value)
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return printable(value)


@lru_cache(maxsize=1)
def _bokeh() -> str:
    """BokehJS without its widgets, tables and TeX, licence included."""
    return "\n".join(Resources(mode="inline", components=["bokeh"], log_level="fatal").js_raw[:1]).strip()


def _own(name: str) -> str:
    return files("harness.reporting.page").joinpath("templates", name).read_text(encoding="utf-8").strip()
