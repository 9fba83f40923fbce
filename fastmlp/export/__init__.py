"""Trained models for other programs: ONNX, PyTorch, safetensors, an HTML page, C, a model card.

Each ``to_...`` function takes a fitted model and, optionally, the path of a file to write. Its
``check_...`` function computes predictions with what was exported and compares them with the
model's. The names below are loaded on first use, with what they need.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastmlp.export.c import check_c, to_c
    from fastmlp.export.card import to_card
    from fastmlp.export.checks import Check
    from fastmlp.export.html import check_html, to_html
    from fastmlp.export.onnx import check_onnx, to_onnx
    from fastmlp.export.safetensors import check_safetensors, to_safetensors
    from fastmlp.export.sklearn_onnx import register_skl2onnx
    from fastmlp.export.torch import check_torch, to_torch, torch_lines

__all__ = [
    "Check",
    "check_c",
    "check_html",
    "check_onnx",
    "check_safetensors",
    "check_torch",
    "register_skl2onnx",
    "to_c",
    "to_card",
    "to_html",
    "to_onnx",
    "to_safetensors",
    "to_torch",
    "torch_lines",
]

#: Modules of the names that do not end in theirs.
_ELSEWHERE = {"Check": "checks", "register_skl2onnx": "sklearn_onnx", "torch_lines": "torch"}


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name not in __all__:
        raise AttributeError(f"module 'fastmlp.export' has no attribute {name!r}")
    module = _ELSEWHERE.get(name, name.rpartition("_")[2])
    return getattr(importlib.import_module(f"fastmlp.export.{module}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
