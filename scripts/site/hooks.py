"""Pages of the site that are not in docs/: README and its like from the root, and the references.

Links from them, and to files of the repository that are no pages, are made to fit; a link to what is not
there ends the build.
"""

from __future__ import annotations

import pathlib
import posixpath
import re
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

# Files of the root, and the pages that they become.
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}

REFERENCE = {
    "python/index.md": ("Python reference", "murano_messaging"),
    "python/aio.md": ("Python reference: asyncio", "murano_messaging.aio"),
    "python/errors.md": ("Python reference: errors", "murano_messaging.errors"),
    "python/events.md": ("Python reference: events", "murano_messaging.events"),
}

RUST = """# Rust reference

[The documentation of the crate](rust/murano_messaging/index.html) is built by rustdoc, with all features.
"""

CSS = """
.md-grid { max-width: 70rem; }
/* Long names break, but no column becomes a thread; what is still too wide scrolls in its own box. */
.md-typeset table:not([class]) td code { overflow-wrap: anywhere; white-space: pre-wrap; }
.md-typeset table:not([class]) th, .md-typeset table:not([class]) td { min-width: 6rem; padding: .5em .7em; }
.md-typeset img { max-width: 100%; background: #fff; }
"""

# The worker that the theme fetches from elsewhere.
FETCHED_WORKER = re.compile(r"https://[a-z.]+/iframe-worker/shim")

# [text](target), and images; not in code.
LINK = re.compile(r"(?<!`)(!?\[[^\]]*\]\()([^)\s]+)(\))")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made."""
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for page, (title, module) in REFERENCE.items():
        files.append(File.generated(config, page, content=reference(title, module)))
    files.append(File.generated(config, "rust.md", content=RUST))
    files.append(File.generated(config, "site.css", content=CSS))
    worker = pathlib.Path(__file__).with_name("worker.js")
    files.append(File.generated(config, "worker.js", content=worker.read_text(encoding="utf-8")))
    return files


def names(module: str) -> list[str]:
    """What a module gives to everybody: its ``__all__``."""
    import ast

    path = ROOT / "python" / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            return list(ast.literal_eval(statement.value))
    raise SystemExit(f"{path} has no __all__")


def reference(title: str, module: str) -> str:
    """A page with everything of a module; errors and events have pages of their own."""
    text = [f"# {title}", ""]
    elsewhere = set(names("murano_messaging.errors")) if module == "murano_messaging" else set()
    text += [f"::: {module}", "    options:", "      members: false", "      show_root_heading: false", ""]
    functions = [name for name in names(module) if name[0].islower()]
    for name in [*functions, *(name for name in names(module) if name not in functions)]:
        if name in elsewhere or name.startswith("__") or name in ("errors", "events"):
            continue
        text += [f"::: {module}.{name}", ""]
    return "\n".join(text)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Make links fit the site."""
    uri = page.file.src_uri
    sources = {target: source for source, target in PAGES.items()}
    # The folder that the file's links start from, as a path from the root of the repository.
    folder = "" if uri in sources else posixpath.join("docs", posixpath.dirname(uri))

    def replace(match: re.Match[str]) -> str:
        opening, target, closing = match.groups()
        if re.match(r"[a-z]+:|#", target) or target.startswith("rust/"):
            return match[0]
        path, _, anchor = target.partition("#")
        there = posixpath.normpath(posixpath.join(folder, path))
        if not (ROOT / there).exists():
            raise SystemExit(f"{uri}: a link to {target}, which is not there")
        anchor = f"#{anchor}" if anchor else ""
        to = PAGES.get(there) or (there.removeprefix("docs/") if there.startswith("docs/") else None)
        if to is not None:
            return f"{opening}{posixpath.relpath(to, posixpath.dirname(uri) or '.')}{anchor}{closing}"
        # A file of the repository: its name.
        text = opening.lstrip("!")[1:-2]
        return text if text.startswith("`") else f"{text} (`{there}`)"

    out, in_code, in_list = [], False, False
    for line in markdown.split("\n"):
        # Python-Markdown wants four spaces in a numbered list, where three are enough for others.
        if re.match(r"\d+\. ", line):
            # And a blank line behind what is indented.
            if in_list and out[-1].startswith("    "):
                out.append("")
            in_list = True
        elif in_list and line.startswith("   "):
            line = " " + line
        elif line.strip():
            in_list = False
        if line.lstrip().startswith("```"):
            in_code = not in_code
            # What rustdoc is told behind the comma is unknown to the highlighter.
            line = re.sub(r"^(\s*```rust),\S+", r"\1", line)
        out.append(line if in_code else LINK.sub(replace, line))
    return "\n".join(out)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Put the worker of ours in the place of the one that is fetched from elsewhere."""
    base = "../" * page.url.count("/")
    return FETCHED_WORKER.sub(f"{base}worker.js", output)


def on_post_template(output_content: str, **_: Any) -> str:
    """The same for the page that says that a page is not there."""
    return FETCHED_WORKER.sub("worker.js", output_content)
