"""The documents: their Python runs and prints what they say, their commands are understood, what they name is there.

The Python of a document is one program, run on an embedded broker in the place of ``amqp://guest:guest@localhost``. What
patches the interpreter or forks has a process of its own. A fence with ``title="…"`` is a file; files called
``test_….py`` are given to pytest. The Rust is compiled by the doc tests (``core/src/guides.rs``).
"""

from __future__ import annotations

import configparser
import contextlib
import importlib.metadata
import io
import os
import pathlib
import re
import shlex
import subprocess
import sys
from unittest import mock
from urllib.parse import urlsplit

import pytest
import trustme

import children
import cli
import murano_messaging as mm
from guides import DOCUMENTS, ROOT, Block, blocks
from murano_messaging import events
from tls_front import TlsFront

# Tests of their own run these.
ELSEWHERE = {"README.md", "docs/migration.md", "docs/oslo.md", "docs/health.md"}
LANGUAGES = {"python", "rust", "rust,no_run", "sh", "text", "ini", "diff", "toml", "console", ""}
PROGRAMS = [
    name
    for name in sorted(DOCUMENTS)
    if name not in ELSEWHERE and any(block.language == "python" for block in blocks(name))
]


def of_its_own(text: str) -> bool:
    """Whether it changes the interpreter."""
    return "monkey_patch" in text or "os.fork" in text


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Puts a broker of the test's own in the place of the one that documents name."""
    monkeypatch.chdir(tmp_path)
    with mm.Broker() as broker:
        uri = broker.listen()
        place = urlsplit(uri).netloc.rpartition("@")[2]
        host, port = place.split(":")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        front = TlsFront(uri, authority)

        def here(block: Block) -> str:
            if block.mark == "tls":
                return block.text.replace("@localhost", f"@localhost:{front.port}")
            text = re.sub(r"localhost(:\d+)?(?=[/,\"])", place, block.text)
            return text.replace(f'host="{place}", port=5672', f'host="{host}", port={port}')

        yield here
        front.close()


def run(block: Block, text: str, document: str, names: dict[str, object]) -> str:
    """Returns what it prints."""
    if of_its_own(text):
        return children.run(text)
    output = io.StringIO()
    code = compile("\n" * (block.line - 1) + text, document, "exec")
    with contextlib.redirect_stdout(output):
        exec(code, names)
    return output.getvalue()


@pytest.mark.parametrize("document", PROGRAMS)
def test_the_python_of_a_document_runs_and_prints_what_it_says(document, here, tmp_path):
    names: dict[str, object] = {"__name__": "guide"}
    printed: str | None = None
    for block in blocks(document):
        if block.language == "text":
            assert printed == block.text, f"{document}:{block.line}"
            printed = None
        elif block.title is not None:
            (tmp_path / block.title).write_text(block.text)
        elif block.language == "python":
            assert not printed, f"{document}: the output before line {block.line} is not shown: {printed}"
            printed = run(block, here(block), document, names)
    assert not printed, f"{document} does not show what it prints: {printed}"
    tests = sorted(path.name for path in tmp_path.glob("test_*.py"))
    if tests:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), *tests]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr


def test_readme_prints_what_its_programs_send(here):
    printed = ""
    names: dict[str, object] = {"__name__": "guide"}
    for block in blocks("README.md"):
        if block.language == "python":
            printed += run(block, here(block), "README.md", names)
    assert printed.splitlines() == ["{'id': 1}", "{'id': 2}", "three", "{'Action': 'Execute'}"]


def test_every_fence_says_what_it_is():
    for document in DOCUMENTS:
        text = DOCUMENTS[document].read_text(encoding="utf-8")
        assert text.count("```") == 2 * len(blocks(document)), document
        unknown = {block.language for block in blocks(document)} - LANGUAGES
        assert not unknown, f"{document}: {unknown}"


def test_rust_in_documents_is_compiled():
    """Each of them has a link in core/src/guides, and a line in core/src/guides.rs."""
    listed = (ROOT / "core" / "src" / "guides.rs").read_text(encoding="utf-8")
    for document, path in DOCUMENTS.items():
        if not any(block.language.startswith("rust") for block in blocks(document)):
            continue
        if document == "README.md":
            link = ROOT / "core" / "src" / "readme.md"
        elif document == "docs/oslo.md":
            link = ROOT / "core" / "src" / "oslo" / "guide.md"
        else:
            link = ROOT / "core" / "src" / "guides" / path.name
            assert f'"guides/{path.name}"' in listed, f"add {document} to core/src/guides.rs"
        assert link.resolve() == path, f"{document}: make {link.relative_to(ROOT)} a link to it"


def test_the_configuration_for_openstack_services_names_a_driver_that_is_there():
    (block,) = (block for block in blocks("README.md") if block.language == "ini")
    parser = configparser.ConfigParser()
    parser.read_string(block.text)
    scheme = urlsplit(parser["DEFAULT"]["transport_url"]).scheme
    entries = importlib.metadata.entry_points()
    group = "oslo.messaging.drivers"
    found = entries.select(group=group) if hasattr(entries, "select") else entries.get(group, [])
    assert scheme in {entry.name for entry in found}


# ---- commands --------------------------------------------------------------------------------------------------------


def commands():
    """Each line of the shell in the documents, with where it stands."""
    for document in DOCUMENTS:
        for block in blocks(document):
            if block.language != "sh":
                continue
            joined = block.text.replace("\\\n", " ")
            for line in joined.splitlines():
                if line.strip() and not line.lstrip().startswith("#"):
                    yield f"{document}:{block.line}", line.strip()


COMMANDS = list(commands())


def words(line: str) -> list[str]:
    """The words up to a pipe or a comment, without redirections and variables in front."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&<>")
    lexer.whitespace_split = True
    found: list[str] = []
    for word in lexer:
        if word in ("|", ";", "&&", "<", ">"):
            break
        found.append(word)
    while found and re.match(r"\w+=", found[0]):
        found.pop(0)
    return found


def test_every_shell_block_is_shell():
    for document in DOCUMENTS:
        for block in blocks(document):
            if block.language == "sh":
                done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
                assert done.returncode == 0, f"{document}:{block.line}: {done.stderr}"


def test_targets_of_make_are_there():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    asked = {(place, word) for place, line in COMMANDS for word in re.findall(r"\bmake ([a-z0-9-]+)", line)}
    for document, path in DOCUMENTS.items():
        asked |= {(document, word) for word in re.findall(r"`make ([a-z0-9-]+)", path.read_text(encoding="utf-8"))}
    assert len(asked) > 20
    missing = sorted((place, target) for place, target in asked if target not in targets)
    assert not missing


def test_commands_of_ours_are_understood():
    """The parser takes them; nothing is run."""
    seen = 0
    for place, line in COMMANDS:
        asked = words(line)
        if asked[:3] == ["python", "-m", "murano_messaging"]:
            asked = ["murano-messaging", *asked[3:]]
        if not asked or not asked[0].endswith("murano-messaging") or len(asked) < 2:
            continue
        given = ["amqp://host" if word == "URI" else word for word in asked[1:]]
        with mock.patch.dict(os.environ, {"AMQP_URL": "amqp://host"}):
            status, errors = parsed(given)
        assert status == 0, f"{place}: {line}: {errors}"
        seen += 1
    assert seen >= 10


def parsed(given: list[str]) -> tuple[int, str]:
    """Whether the command line is understood: as far as the parsing goes."""
    from murano_messaging import _cli

    errors = io.StringIO()
    parser = _cli._parser()
    with contextlib.redirect_stderr(errors):
        try:
            arguments, rest = parser.parse_known_args(_cli._with_uri(given))
        except SystemExit as error:
            return int(error.code or 0), errors.getvalue()
    if rest and getattr(arguments, "queue", "") is None and not rest[0].startswith("-"):
        rest.pop(0)
    return (2, f"not known: {rest}") if rest else (0, "")


def test_commands_of_cargo_name_what_is_there():
    manifests = "".join(
        path.read_text(encoding="utf-8") for path in ROOT.glob("**/Cargo.toml") if "target" not in path.parts
    )
    names = set(re.findall(r'^name = "([^"]+)"', manifests, re.MULTILINE))
    tests = {path.stem for path in (ROOT / "core" / "tests").glob("*.rs")}
    tests |= {path.parent.name for path in (ROOT / "core" / "tests").glob("*/main.rs")}
    features = set(re.findall(r"^([a-z-]+) = \[", manifests, re.MULTILINE))
    for place, line in COMMANDS:
        for option, value in re.findall(r"(-p|--package|--example|--bin|--test|--features) ([\w,-]+)", line):
            if option == "--test":
                assert value in tests, f"{place}: no test {value}"
            elif option == "--features":
                known = features | {"macros", "rt-multi-thread"}
                assert set(value.split(",")) <= known, f"{place}: no feature {value}"
            else:
                assert value in names, f"{place}: no {option} {value}"


def test_scripts_and_files_that_documents_name_are_there():
    for document, path in DOCUMENTS.items():
        text = path.read_text(encoding="utf-8")
        named = r"(?<![\w/])((?:scripts|core|ffi-tests|examples|testkit|python)/[\w./-]+\.(?:sh|rs|pyi?|toml|txt))\b"
        for name in re.findall(named, text):
            assert (ROOT / name).exists(), f"{document}: {name}"


# ---- what they say ---------------------------------------------------------------------------------------------------


def sources(*folders: str) -> str:
    """The texts of the sources, in which string literals over several lines are one."""
    text = ""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".rs", ".py", ".pyi"):
                text += path.read_text(encoding="utf-8") + "\n"
    return re.sub(r"\\\n\s*", "", text)


def test_messages_that_troubleshooting_explains_are_those_of_the_source():
    source = sources("core/src", "python/src", "python/murano_messaging")
    table = re.findall(
        r"^\| `([^`]+)` \|", DOCUMENTS["docs/troubleshooting.md"].read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(table) > 30
    for message in table:
        parts = [part.strip() for part in message.split("…")]
        known = [part for part in parts if len(part) > 7]
        assert known, f"{message!r}: too little of it is fixed"
        for part in known:
            fixed = part.strip("'():; ")
            assert fixed in source, f"docs/troubleshooting.md: no source says {fixed!r} (of {message!r})"


def test_records_that_operators_are_told_of_are_those_of_the_source():
    source = sources("core/src")
    text = DOCUMENTS["docs/operating.md"].read_text(encoding="utf-8")
    table = text.split("| record |")[1].split("\n\n")[0]
    records = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert len(records) >= 8
    missing = [record for record in records if record not in source]
    assert not missing


def test_every_class_of_error_is_explained():
    text = "".join(DOCUMENTS[name].read_text(encoding="utf-8") for name in ("docs/troubleshooting.md", "docs/tls.md"))
    missing = [name for name in mm.errors.__all__ if name not in text]
    assert not missing, f"add {missing} to docs/troubleshooting.md"


def test_every_event_is_explained():
    text = DOCUMENTS["docs/recovery.md"].read_text(encoding="utf-8")
    missing = [name for name in events.__all__ if name != "Event" and f"`{name}`" not in text]
    assert not missing, f"add {missing} to docs/recovery.md"


def test_every_failure_of_tls_is_explained():
    text = DOCUMENTS["docs/tls.md"].read_text(encoding="utf-8")
    names = re.findall(r"=> \"(\w+)\"", sources("python/src").split("fn tls_failure_name")[1].split("\n}")[0])
    assert len(names) >= 10
    assert not [name for name in names if f"| `{name}` |" not in text]


def test_tests_that_documents_name_are_there():
    there = set(re.findall(r"\b(?:fn|def) (\w+)", sources("core/tests", "core/src", "testkit", "ffi-tests", "python")))
    files = {path.name for path in (ROOT / "ffi-tests").rglob("test_*.py")}
    for document in (
        "docs/comparison.md",
        "docs/reliability.md",
        "docs/rabbitmq4.md",
        "docs/running.md",
        "docs/clusters.md",
    ):
        for name in re.findall(r"`((?:test|fault)_\w+(?:\.py)?)`", DOCUMENTS[document].read_text(encoding="utf-8")):
            assert name in there or name in files, f"{document}: {name}"


def test_readme_and_the_comparison_have_the_same_rows():
    readme = DOCUMENTS["README.md"].read_text(encoding="utf-8").split("| | here |")[1].split("\n\n")[0]
    rows = [row.split("|")[1].strip() for row in readme.splitlines()[2:]]
    text = DOCUMENTS["docs/comparison.md"].read_text(encoding="utf-8")
    compared = [row.split("|")[1].strip() for row in text.splitlines() if row.startswith("| ") and "`" in row]
    assert rows == compared
    for row in rows[:-2]:
        assert row.split(",")[0].casefold() in text.casefold()


def test_versions_are_the_same_wherever_they_stand():
    cargo = (ROOT / "Cargo.toml").read_text(encoding="utf-8")
    python = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version, rust = (re.search(rf'^{key} = "([^"]+)"', cargo, re.MULTILINE)[1] for key in ("version", "rust-version"))
    oldest = re.search(r'requires-python = ">=([\d.]+)"', python)[1]
    assert mm.__version__ == version
    assert importlib.metadata.version("murano-messaging") == version
    changelog = DOCUMENTS["CHANGELOG.md"].read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changelog, re.MULTILINE)[1] == version
    for document in ("README.md", "CHANGELOG.md"):
        text = DOCUMENTS[document].read_text(encoding="utf-8")
        assert rust in text and oldest in text, document
    assert f"Rust {rust} or newer" in (ROOT / "scripts" / "setup.sh").read_text(encoding="utf-8")
    assert f'"Programming Language :: Python :: {oldest}"' in python
    assert f"abi3-py{oldest.replace('.', '')}" in (ROOT / "python" / "Cargo.toml").read_text(encoding="utf-8")
    # No other manifest has a version of its own, but the one of the fuzzing targets, which is no part of the workspace.
    for path in ("core", "core/benches", "core/benches/instructions", "python", "testkit"):
        manifest = (ROOT / path / "Cargo.toml").read_text(encoding="utf-8")
        assert "version.workspace = true" in manifest and not re.search(r'^version = "', manifest, re.MULTILINE), path


# ---- who has only the README -----------------------------------------------------------------------------------------


def test_a_tls_failure_is_diagnosed_as_the_readme_says(here, tmp_path):
    """`murano-messaging doctor URI`, with an authority that nobody trusts, says which step fails and what to do."""
    assert "murano-messaging doctor URI" in DOCUMENTS["README.md"].read_text(encoding="utf-8")
    (block,) = (block for block in blocks("docs/tls.md") if block.language == "sh")
    right = words(here(block._replace(mark="tls")))
    (tmp_path / "password").write_text("guest\n")
    assert cli.succeeded(*right[1:]).endswith("all is well\n")
    without = right[1 : right.index("--ca-file")]
    done = cli.run(*without)
    assert done.returncode == 1
    assert "FAIL  TLS" in done.stdout and "--ca-file" in done.stdout, done.stdout
    assert pathlib.Path("ca.pem").exists()
