"""Where ours is meant to differ from Puka 0.0.8, both do what docs/puka.md says."""

from __future__ import annotations

import ast
import pathlib
import re

import pytest

import brokers

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.joinpath("differences.py").read_text()
NAMES = re.findall(r"^def (d_\w+)", SOURCE, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_both_see_what_is_documented(compared, name):
    theirs, ours = compared("differences", name)
    assert theirs != ours
    expected = _expected()[name]
    assert theirs == expected[0]
    assert ours == expected[1]


def _expected():
    """The module's table, without its `import puka`."""
    known = {}
    for node in ast.parse(SOURCE).body:
        if isinstance(node, ast.Assign):
            exec(compile(ast.Module([node], []), "differences.py", "exec"), known)
    return known["EXPECTED"]


def test_each_is_in_the_table():
    table = brokers.ROOT.joinpath("docs", "puka.md").read_text()
    missing = [name for name in NAMES if f"`{name}`" not in table]
    assert not missing, f"add {missing} to the table in docs/puka.md"
    assert set(_expected()) == set(NAMES), "add what is missing to EXPECTED in differences.py"
