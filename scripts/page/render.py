"""Render the report's page from its data."""

import base64
import hashlib
import json
import math
import re
from itertools import chain
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import vl_convert
from itables.utils import read_package_file
from markupsafe import Markup

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "report"
# Both are inferno's; the second is an attribute of its <svg>.
FLAMEGRAPH_SCRIPT = re.compile(r'<script type="text/ecmascript">(.*?)</script>', re.DOTALL)
FLAMEGRAPH_START = "init(evt)"


def table_of(table: pd.DataFrame, columns: list[str]) -> dict[str, Any]:
    """The columns that matter most, and rows of pairs: a text, and the value to sort by. The files have all columns."""
    decimals = {name: _decimals(table[name]) for name in columns}
    rows = [
        [_format(value, decimals[name]) for name, value in zip(columns, row, strict=True)]
        for row in table[columns].itertuples(index=False)
    ]
    return {"columns": columns, "rows": rows}


def _decimals(column: "pd.Series[Any]") -> int:
    """Decimals with which the largest number has five digits; none if all are whole."""
    if not pd.api.types.is_numeric_dtype(column) or (column.dropna() % 1 == 0).all():
        return 0
    return max(0, 4 - math.floor(math.log10(column.abs().max())))


def _format(value: Any, decimals: int) -> tuple[str, Any]:
    """A value as text, and the value to sort by."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return "", ""
    if isinstance(value, (bool, str)):
        return str(value).replace(";", " "), str(value)
    return f"{float(value):,.{decimals}f}", float(value)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def as_json(value: Any) -> Markup:
    """JSON for a script element: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace(
        "<", "\\u003c"
    )
    return Markup(text)


def content_security_policy(script: str, profiles: list[dict[str, Any]]) -> str:
    """A policy that loads nothing, and runs no script but the page's, its libraries' and the flamegraphs'."""
    drawn = [FLAMEGRAPH_SCRIPT.search(profile["svg"]) for profile in profiles]
    scripts = {match[1].replace("<![CDATA[", "").replace("]]>", "") for match in drawn if match}
    hashes = [
        f"'sha256-{_base64(hashlib.sha256(text.encode()).digest())}'"
        for text in [script, *sorted(scripts), FLAMEGRAPH_START]
    ]
    return (
        f"default-src 'none'; script-src blob: 'unsafe-hashes' {' '.join(hashes)}; "
        "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def render(data: dict[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["json"] = as_json
    # A number and its unit stay on one line.
    environment.filters["unbroken"] = lambda text: text.replace(" %", "\u00a0%").replace(
        " µs", "\u00a0µs"
    )
    # A long name may break behind an underscore.
    environment.filters["breakable"] = lambda name: name.replace("_", "_\u200b")
    script = (PAGE / "page.js").read_text()
    return environment.get_template("page.html").render(
        **data,
        policy=content_security_policy(script, [*chain(*data["profiles"].values())]),
        # Vega, Vega-Lite and Vega-Embed, which set window.vegaEmbed. Its stubs take a snippet for required.
        vega=vl_convert.javascript_bundle(),  # type: ignore[call-arg]
        datatables=read_package_file("html/dt_bundle.js"),
        datatables_style=Markup(read_package_file("html/dt_bundle.css")),
        style=Markup((PAGE / "page.css").read_text()),
        script=Markup(script),
    )
