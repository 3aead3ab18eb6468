"""The same programs on Puka 0.0.8 and on ours see the same."""

from __future__ import annotations

import pathlib
import re

import pytest

SOURCE = pathlib.Path(__file__).with_name("scenarios.py").read_text()


@pytest.mark.parametrize("name", re.findall(r"^def (s_\w+)", SOURCE, re.MULTILINE))
def test_both_see_the_same(compared, name):
    theirs, ours = compared("scenarios", name)
    assert theirs[-1][0] != "failed", f"Puka itself failed:\n{theirs[-1][1]}"
    assert ours[-1][0] != "failed", f"ours failed:\n{ours[-1][1]}"
    assert ours == theirs
