"""The page on which people use a model: one to draw on, or a form, as a single HTML file.

`page.html` is the skeleton; `drawing.*` and `form.*` are the views of models of images and of
tables, with `parts.js` and `result.html` in common. A model is an object with `explain`, `weights`
and `predictTable`: that of `here.js` computes in the page, by `network.js`, with arrays that
`weights` stores; that of `server.js` asks the server.
"""

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

__all__ = ["render"]

#: The scripts of a view, by kind of model; its template and style sheet have the name of the last.
_VIEWS: dict[str, tuple[str, ...]] = {
    "images": ("pixels.js", "drawing.js"),
    "table": ("csv.js", "form.js"),
}
#: The scripts that predict.
_MODELS: dict[str, dict[str, tuple[str, ...]]] = {
    "server": {"images": ("server.js",), "table": ("server.js",)},
    "here": {
        "images": ("network.js", "here.js", "here_images.js"),
        "table": ("network.js", "encoding.js", "here.js", "here_table.js"),
    },
}
_WHERE = {
    "here": "Everything is computed on this page: nothing leaves your device.",
    "server": "Predictions come from the server of this page.",
}


def render(
    models: Sequence[Mapping[str, Any]],
    *,
    runs: str,
    token_required: bool = False,
    networks: Mapping[str, Any] | None = None,
    title: str | None = None,
) -> str:
    """Return the page of some models.

    Parameters
    ----------
    models : sequence of mapping
        What `fastmlp.portable.about` says of each. With ``runs="server"``, none: then the page
        asks the server for them.
    runs : {"server", "here"}
        What computes predictions: the server that the page comes from, or the page itself, which
        then works offline.
    token_required : bool, default=False
        Whether the server will want a token, which the page then asks for at once.
    networks : mapping of str to dict, optional
        By names of models, what `fastmlp.page.weights.encoded` returns; with ``runs="here"``.
    title : str, optional
        By default the name of the first model.

    Returns
    -------
    str
        HTML that loads nothing from elsewhere.

    Raises
    ------
    ValueError
        If `runs` is something else, or networks are missing.
    """
    if runs not in _MODELS:
        raise ValueError(f"runs must be 'server' or 'here', got {runs!r}.")
    names = [model["name"] for model in models]
    if runs == "here" and (not names or set(names) != set(networks or {})):
        raise ValueError(
            f"networks must be those of the models {names}, got {sorted(networks or {})}."
        )
    found = {"images" if model["kind"] == "images" else "table" for model in models}
    kinds = [kind for kind in _VIEWS if kind in found or not found]
    views = [Path(_VIEWS[kind][-1]).stem for kind in kinds]
    style = _text("page.css") + "".join(_text(f"{view}.css") for view in views)
    template = "".join(_text(f"{view}.html") for view in views)
    scripts = {"parts.js": _text("parts.js")}
    for kind in kinds:
        scripts |= {name: _text(name) for name in (*_VIEWS[kind], *_MODELS[runs][kind])}
    scripts["page.js"] = _text("page.js")  # starts, so it is the last
    data: dict[str, Any] = {"abouts": list(models)}
    if networks:
        data["networks"] = networks
    return Template(_text("page.html")).substitute(
        version=version("fastmlp"),
        title=_shown(title or (names[0] if names else "fastmlp")),
        policy=_policy(style, scripts.values(), runs),
        style=style,
        where=_WHERE[runs],
        token=_token(token_required) if runs == "server" else "",
        templates=Template(template).substitute(result=_text("result.html")),
        data="\n".join(
            f'<script type="application/json" id="{name}">{_json(content)}</script>'
            for name, content in data.items()
        ),
        scripts="\n".join(
            f'<script id="{name}">{script}</script>' for name, script in scripts.items()
        ),
    )


def _text(name: str) -> str:
    """Return a file of this package, without comments and indentation."""
    text = files("fastmlp.page").joinpath(name).read_text("utf-8")
    text = re.sub(r"(?ms)^ */\*.*?\*/\n|(?:^|  )//[^\n]*", "", text)
    return re.sub(r"(?m)^\s+", "", text)


def _shown(text: str) -> str:
    """Return text as HTML; names of files may have characters that cannot be encoded."""
    return escape(text.encode("utf-8", "backslashreplace").decode())


def _token(is_required: bool) -> str:
    """Return the form that asks for a token."""
    return Template(_text("token.html")).substitute(required="yes" if is_required else "no")


def _policy(style: str, scripts: Any, runs: str) -> str:
    """Return the content security policy: only this style sheet and these scripts."""

    def digests(texts: Any) -> str:
        hashes = (hashlib.sha256(text.encode()).digest() for text in texts)
        return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in hashes)

    rules = [
        "default-src 'none'",
        "img-src data:",
        f"style-src {digests([style])}",
        f"script-src {digests(scripts)}",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    if runs == "server":
        rules.append("connect-src 'self'")
    return "; ".join(rules)


def _json(content: Any) -> str:
    """Return JSON that can be inside a script element."""
    return json.dumps(_finite(content), separators=(",", ":")).replace("<", "\\u003c")


def _finite(content: Any) -> Any:
    """Return content with text for numbers that JSON does not have."""
    if isinstance(content, float) and not math.isfinite(content):
        return str(content)
    if isinstance(content, Mapping):
        return {str(name): _finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return content
