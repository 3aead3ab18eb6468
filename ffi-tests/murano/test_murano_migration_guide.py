"""The migration guide: its snippets run, one section after the other, and print what it says."""

from __future__ import annotations

import contextlib
import io
import pathlib
import re
import textwrap
from urllib.parse import urlsplit

import pytest
from test_murano_demo import serve

import murano_messaging as mm
from children import run

GUIDE = (pathlib.Path(__file__).resolve().parent.parent.parent / "docs" / "migration.md").read_text()
# The languages whose blocks are not Python, and are only read.
READ = {"sh", "text"}
NAMES = sorted(set(re.findall(r"[\w-]*(?:plans-of-web-0|replicated-plans|tasks-of-puka)", GUIDE)))


def blocks() -> list[tuple[int, str, str]]:
    """Line, language and text of each block."""
    found = []
    for match in re.finditer(r"^( *)```(\w+)\n(.*?)^\1```$", GUIDE, re.MULTILINE | re.DOTALL):
        line = GUIDE.count("\n", 0, match.start()) + 2
        found.append((line, match[2], textwrap.dedent(match[3])))
    return found


@pytest.fixture(params=["RabbitMQ", "embedded broker"])
def guide_broker(request):
    if request.param == "RabbitMQ":
        yield request.getfixturevalue("uri")
        return
    with serve() as process:
        yield process.stdout.readline().strip()
        process.terminate()
        process.communicate(timeout=30)


def test_the_snippets_run_and_print_what_the_guide_says(guide_broker, unique):
    port = urlsplit(guide_broker).port
    replaced = {name: unique(name) for name in NAMES}

    def here(text: str) -> str:
        text = text.replace("localhost:5672", f"127.0.0.1:{port}").replace('"localhost", 5672', f'"127.0.0.1", {port}')
        text = text.replace('host="localhost", port=5672', f'host="127.0.0.1", port={port}')
        for name, other in replaced.items():
            text = text.replace(name, other)
        return text

    ran = 0
    printed = None
    for line, language, text in blocks():
        if language == "text":
            assert printed == text, f"line {line} of the guide"
            printed = None
            continue
        assert not printed, f"the guide does not show what is printed before line {line}"
        if language == "diff":
            # What is there after the change.
            text = "".join(row[1:] + "\n" for row in text.splitlines() if not row.startswith("-"))
        if language in READ or "adopt()" in text:
            continue
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile("\n" * (line - 1) + here(text), "migration.md", "exec"), {})
        printed = output.getvalue()
        ran += 1
    assert ran == len([language for _, language, text in blocks() if language not in READ]) - 1
    with mm.connect(guide_broker) as client:
        for name in replaced.values():
            client.delete_queue(name)


def test_the_snippet_that_adopts_runs_in_a_process_of_its_own():
    (snippet,) = [text for _, _, text in blocks() if "adopt()" in text]
    run(snippet)


def test_every_block_says_what_it_is():
    assert GUIDE.count("```") == 2 * len(blocks())
    assert {language for _, language, _ in blocks()} == {"python", "diff", *READ}
