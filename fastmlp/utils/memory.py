"""Amounts of memory: the machine's, and those that users write."""

import os
import re
from functools import cache
from pathlib import Path

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

#: Where Linux keeps the limits of containers, and those of other groups of processes below.
_GROUPS = Path("/sys/fs/cgroup")


def as_bytes(amount: object, name: str = "max_memory") -> int:
    """Return an amount of memory in bytes.

    Parameters
    ----------
    amount : number or str
        Bytes, or a number with a unit: "500M", "1G", "1.5GiB"; a unit is a power of 1024.
    name : str
        The parameter, for the error message.

    Examples
    --------
    >>> as_bytes("1.5G")
    1610612736
    """
    found = None
    if isinstance(amount, str):
        found = re.fullmatch(r"(\d+(?:\.\d*)?) ?([KMGT]?)(?:i?B)?", amount.strip(), re.IGNORECASE)
    if found:
        amount = int(float(found[1]) * _UNITS[found[2].upper()])
    if isinstance(amount, float) and amount.is_integer():  # such as 2e9
        amount = int(amount)
    if isinstance(amount, bool) or not isinstance(amount, int) or amount < 1:
        raise ValueError(
            f"{name} must be a number of bytes or a text such as '500M' or '1G', got {amount!r}."
        )
    return amount


@cache
def of_this_machine() -> int | None:
    """Return the bytes of memory that this process may use; None if that is not known.

    The machine's, or the limit of the container.
    """
    try:
        limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, OSError, ValueError):  # Windows
        return None
    for path in _limit_files():
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            limits.append(int(text))
    return min(limits)


def _limit_files() -> list[Path]:
    """Return the files with the limits of this process's group and of those around it."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        version_1 = controllers == "memory"
        root = _GROUPS / "memory" if version_1 else _GROUPS
        name = "memory.limit_in_bytes" if version_1 else "memory.max"
        inner = Path(group.lstrip("/"))
        found += [root / folder / name for folder in (inner, *inner.parents)]
    return found


def in_words(n_bytes: float) -> str:
    """Return a number of bytes in words.

    Examples
    --------
    >>> in_words(1.5e9)
    '1.5 GB'
    """
    for power, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n_bytes >= power:
            return f"{n_bytes / power:.3g} {unit}"
    return f"{n_bytes:.0f} bytes"
