"""Notices when another distribution has taken files of ours: the drop-ins have the names of what they replace.

Whichever of the two was installed last has its files in place, and removing the other one deletes them.
"""

from __future__ import annotations

import os
import warnings
from importlib.machinery import PathFinder

PACKAGES = {"puka": "puka", "muranocommon": "murano-common"}
"""Our packages, and the distribution that brings one of the same name."""


class OverwrittenWarning(UserWarning):
    """Another distribution has overwritten files of this one, or would delete them when it is removed."""


def check(site: str | None = None) -> None:
    """Warn of each package that is not ours any more, or will not be for long."""
    site = site or os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    try:
        names = os.listdir(site)
    except OSError:
        return
    # From a directory of sources, or a zip file, there is nothing that could be overwritten.
    for record in (name for name in names if name.startswith("murano_messaging-") and name.endswith(".dist-info")):
        for package, distribution in PACKAGES.items():
            if _has(os.path.join(site, record, "RECORD"), f"{package}/__init__.py"):
                _check_package(site, names, package, distribution)


def _check_package(site: str, names: list[str], package: str, distribution: str) -> None:
    known = distribution.replace("-", "_") + "-"
    other = [name for name in names if name.startswith(known) and name.endswith(("dist-info", "egg-info"))]
    ours = os.path.join(site, package, "__init__.py")
    found = PathFinder.find_spec(package)
    origin = found.origin if found is not None else None
    if not os.path.exists(ours):
        what = f"the files of its package '{package}' are gone: they went with the distribution '{distribution}'"
    elif not _has(ours, "murano_messaging"):
        what = f"the distribution '{distribution}' has overwritten its package '{package}'"
    elif origin is not None and not _same(origin, ours):
        what = f"'import {package}' imports {origin} instead of its package '{package}'"
    elif other:
        what = f"the distribution '{distribution}' is installed too, and will take the files of '{package}' with it"
    else:
        return
    warnings.warn(
        f"murano-messaging: {what}. Run 'pip uninstall {distribution}', and then "
        "'pip install --force-reinstall --no-deps murano-messaging'",
        OverwrittenWarning,
        stacklevel=4,
    )


def _has(path: str, text: str) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return text in file.read()
    except OSError:
        return False


def _same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
