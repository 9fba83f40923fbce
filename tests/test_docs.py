"""Links between the Markdown files of the repository, and the names in the API reference."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from fastmlp import datasets

ROOT = Path(__file__).parent.parent
MADE = ("_build", "api", "auto_examples")  # by the build of the site
PAGES = [
    *ROOT.glob("*.md"),
    *(
        path
        for path in sorted((ROOT / "docs").rglob("*.md"))
        if not set(path.relative_to(ROOT / "docs").parts) & set(MADE)
    ),
]

#: Modules whose other public names are for fastmlp's own modules.
PARTLY = {"fastmlp", "fastmlp.backends", "fastmlp.exceptions", "fastmlp.persistence",
          "fastmlp.training"}  # fmt: skip


def without_code(text):
    """Return a page without its blocks of code and comments."""
    return re.sub(r"^(```|~~~).*?^\1|<!--.*?-->", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text):
    """Return the anchors of a page's headings, as repositories' pages make them."""
    titles = re.findall(r"^#+ (.+)$", without_code(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken(page, text):
    """Return the links of a page that lead nowhere."""
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(text)):
        path, _, anchor = link.partition("#")
        if ":" in path:
            continue
        target = page.parent / path if path else page
        target_text = text if not path else None
        if not target.exists():
            found.append(link)
        elif anchor:
            target_text = target.read_text("utf-8") if target_text is None else target_text
            if anchor not in anchors(target_text):
                found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page):
    assert broken(page, page.read_text("utf-8")) == []


@pytest.mark.parametrize("link", ["nothing.md", "README.md#nothing", "#nothing"])
def test_a_broken_link_is_found(link):
    assert broken(ROOT / "README.md", f"# A title\n\n[text]({link})\n") == [link]


def reference():
    """Return the names in the API reference, by module."""
    page = ROOT / "docs" / "reference.rst"
    if not page.exists():
        pytest.skip("this is not a clone")
    _, *parts = page.read_text("utf-8").split(".. currentmodule:: ")
    found = {}
    for part in parts:
        module, _, rest = part.partition("\n")
        constants = re.findall(r"^Constants: (.+)\.$", rest, flags=re.MULTILINE)
        names = re.findall(r"^   (\w+)$", rest, flags=re.MULTILINE)
        found[module] = names + re.findall(r"``(\w+)``", "".join(constants))
    return found


def test_the_reference_has_every_public_name():
    pytest.importorskip("dask")
    pytest.importorskip("pyarrow")
    for module, names in reference().items():
        loaded = importlib.import_module(module)
        for name in names:
            assert hasattr(loaded, name), f"{module}.{name}"
        if module not in PARTLY:
            assert sorted(names) == sorted(loaded.__all__), module


def test_the_reference_has_every_warning():
    from fastmlp import exceptions

    classes = {name for name, value in vars(exceptions).items() if isinstance(value, type)}
    assert classes == set(reference()["fastmlp.exceptions"])


#: Pages whose examples are complete: each runs from its top to its bottom.
COMPLETE = (
    *("index.md", "drop_in.md", "guide/train.md", "guide/ensembles.md", "guide/augmentation.md"),
    *("guide/callbacks.md", "guide/save.md", "guide/search.md"),
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", COMPLETE)
def test_examples_run_as_they_are_pasted(name, tmp_path, monkeypatch):
    X, y = load_digits(return_X_y=True)
    images = np.kron(
        (X[:300] * 15).astype(np.uint8).reshape(-1, 8, 8), np.ones((1, 3, 3), np.uint8)
    )
    images = np.pad(images, ((0, 0), (2, 2), (2, 2))).reshape(len(images), 784)
    few = (images[:200], y[:200]), (images[200:], y[200:300])
    monkeypatch.setattr(datasets, "load_mnist", lambda: few)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / name).read_text("utf-8")
    found = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert found
    namespace = {}
    for block in found:
        exec(block.replace("n_trials=50", "n_trials=2"), namespace)
