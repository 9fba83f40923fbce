"""The documentation site: python -m sphinx -W --keep-going -b html docs docs/_build/html.

Markdown pages are read on the repository's page, too, so they link to files as one does there;
`adapt_links` makes links of the site of them.
"""

import os
import posixpath
import re
import subprocess
import sys
import warnings
from importlib.metadata import version as installed_version
from pathlib import Path

import matplotlib
from sklearn.exceptions import ConvergenceWarning

matplotlib.use("agg")

HERE = Path(__file__).parent
ROOT = HERE.parent

#: Address of the repository, such as https://example.org/fastmlp. Without it, links to files that
#: are not pages of the site become their paths.
REPOSITORY = os.environ.get("FASTMLP_REPOSITORY", "")

project = "fastmlp"
author = "The fastmlp developers"
project_copyright = author
release = version = installed_version("fastmlp")
language = "en"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
exclude_patterns = ["_build", "gallery", "auto_examples/*.ipynb", "auto_examples/*.py"]
templates_path = ["_templates"]
default_role = "py:obj"  # `name` in docstrings: a link, where there is a page
nitpicky = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["config.cache"]  # the gallery's order is a function

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections have the types
toc_object_entries_show_parents = "hide"
autodoc_member_order = "groupwise"
numpydoc_show_class_members = False  # the template of a class has them
numpydoc_class_members_toctree = False

html_theme = "pydata_sphinx_theme"
html_title = f"fastmlp {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
# None where there is nothing to list.
html_sidebars = {"*": [], "api/commands": [], "reference": ["sidebar-nav-bs"]}
html_theme_options = {
    "logo": {"text": "fastmlp"},
    "header_links_before_dropdown": 6,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "show_nav_level": 1,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": ["gallery"],
    "gallery_dirs": ["auto_examples"],
    "filename_pattern": "/plot_",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "copyfile_regex": "",
    "remove_config_comments": True,
    "show_signature": False,
    "show_memory": False,
    "write_computation_times": False,
    "min_reported_time": 10,
    "plot_gallery": True,
    "abort_on_example_error": True,
    "doc_module": (),
    "image_srcset": ["2x"],
}

# ------------------------------------------------------------------------------------------ links

_LINK = re.compile(r"(?<!\!)\[([^\]]*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"(^```.*?^```)", flags=re.MULTILINE | re.DOTALL)


def adapt_links(text: str, written_in: str, page: str) -> str:
    """Return Markdown with links that the site can follow.

    Parameters
    ----------
    text : str
    written_in, page : str
        The folder of the file, and that of the page that shows it, below the repository's root.
    """

    def adapted(match: re.Match[str]) -> str:
        label, target = match.groups()
        path, hash_sign, anchor = target.partition("#")
        if not path or ":" in path:
            return match[0]
        path = posixpath.normpath(posixpath.join(written_in, path))
        if path == "docs/gallery" or path.startswith("docs/gallery/plot_"):
            name = posixpath.basename(path.removesuffix(".py")).replace("gallery", "index")
            return f"[{label}]({posixpath.relpath(f'docs/auto_examples/{name}.rst', page)})"
        if (ROOT / path).exists() and path.startswith("docs/"):
            return f"[{label}]({posixpath.relpath(path, page)}{hash_sign}{anchor})"
        if path in ("CHANGELOG.md", "CONTRIBUTING.md"):
            return f"[{label}]({posixpath.relpath(f'docs/{path.lower()}', page)})"
        if not (ROOT / path).exists():
            return match[0]  # which the build then warns of
        if REPOSITORY:
            return f"[{label}]({REPOSITORY}/blob/main/{path})"
        return f"`{path}`" if label == path else f"{label} (`{path}`)"

    parts = _FENCE.split(text)  # in code, brackets are no links
    return "".join(part if part.startswith("```") else _LINK.sub(adapted, part) for part in parts)


def adapt_page(app, docname, source):
    """Adapt the links of a page of docs/."""
    if str(app.env.doc2path(docname)).endswith(".md"):
        folder = posixpath.normpath(posixpath.join("docs", posixpath.dirname(docname)))
        source[0] = adapt_links(source[0], folder, folder)


def adapt_included(app, path, docname, content):
    """Adapt the links of a file of the repository's root that a page includes."""
    # Not `docname`, in which MyST leaves out the folder.
    page = posixpath.normpath(posixpath.join("docs", posixpath.dirname(app.env.docname)))
    content[0] = adapt_links(content[0], "", page)


# --------------------------------------------------------------------------------------- commands

_COMMANDS = (
    *("train", "search", "evaluate", "predict", "serve", "export", "show", "show-model"),
    *("confusions", "parity", "bench", "info", "recipes"),
    *("data fetch", "data info", "data convert"),
)


def write_commands(app):
    """Write the help of every command to a page."""
    parts = ["# Options of the commands\n\nWhat `fastmlp COMMAND --help` prints.\n"]
    environment = os.environ | {"TERMINAL_WIDTH": "90", "COLUMNS": "90", "NO_COLOR": "1"}
    for name in _COMMANDS:
        command = [sys.executable, "-m", "fastmlp", *name.split(), "--help"]
        run = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", check=True, env=environment
        )
        lines = "\n".join(line.rstrip() for line in run.stdout.strip().splitlines())
        parts.append(f"## fastmlp {name}\n\n```text\n{lines}\n```\n")
    page = HERE / "api" / "commands.md"
    page.parent.mkdir(exist_ok=True)
    text = "\n".join(parts)
    if not page.exists() or page.read_text("utf-8") != text:
        page.write_text(text, "utf-8")


# -------------------------------------------------------------------------------------- reference


def skip_routing(app, what, name, value, skip, options):
    """Leave out the methods that scikit-learn makes for metadata routing."""
    is_routing = name == "get_metadata_routing" or re.fullmatch(r"set_\w+_request", name)
    return True if is_routing else None


def as_text(app, env, node, content):
    """Return the text of a label or term of scikit-learn's documentation.

    Inherited docstrings refer to these; ours refer to objects only.
    """
    is_label = node["reftype"] in ("ref", "term") and node["refdoc"].startswith("api/")
    return content if is_label else None


def setup(app):
    """Connect the above."""
    # The examples train for as many epochs as their pictures need.
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    app.connect("builder-inited", write_commands)
    app.connect("source-read", adapt_page)
    app.connect("include-read", adapt_included)
    app.connect("autodoc-skip-member", skip_routing)
    app.connect("missing-reference", as_text)
