"""Drop-in replacements for the messaging packages inside Murano's engine and agent, and putting them in place.

``murano_engine`` and ``murano_agent`` have the modules and classes of ``murano.common.messaging`` and
``muranoagent.common.messaging``: import them instead, or call :func:`adopt` before anything imports the originals.
"""

from __future__ import annotations

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ._warnings import InsecureTLSWarning

__all__ = ["InsecureTLSWarning", "adopt"]

_PACKAGES = {
    "murano.common.messaging": "murano_messaging.compat.murano_engine",
    "muranoagent.common.messaging": "murano_messaging.compat.murano_agent",
}
_MODULES = {
    f"{original}{part}": f"{ours}{part}"
    for original, ours in _PACKAGES.items()
    for part in ("", ".message", ".mqclient", ".subscription")
}


class _Adopted(MetaPathFinder, Loader):
    """Finds the adopted names, and fills each module with what ours has."""

    def find_spec(self, fullname: str, _path: Any = None, _target: Any = None) -> ModuleSpec | None:
        if fullname not in _MODULES:
            return None
        return ModuleSpec(fullname, self, origin=_MODULES[fullname], is_package=fullname in _PACKAGES)

    def exec_module(self, module: ModuleType) -> None:
        ours = importlib.import_module(_MODULES[module.__name__])
        for name, value in vars(ours).items():
            if name.startswith("__") and name not in ("__all__", "__doc__"):
                continue
            if isinstance(value, ModuleType) and f"{module.__name__}.{name}" in _MODULES:
                value = importlib.import_module(f"{module.__name__}.{name}")
            setattr(module, name, value)


def adopt() -> None:
    """Put ours in the place of ``murano.common.messaging`` and ``muranoagent.common.messaging``.

    Call it before those are imported. It does nothing to a package that is not there.
    """
    finder = next((finder for finder in sys.meta_path if isinstance(finder, _Adopted)), None)
    if finder is not None:
        return
    for name in _MODULES:
        if name in sys.modules:
            raise RuntimeError(f"{name} was imported before: call murano_messaging.compat.adopt() first")
    sys.meta_path.insert(0, _Adopted())
