"""The dependencies of the crate and of the Python package.

    scripts/dependencies.py            writes licences and sizes into the tables of docs/dependencies.md
    scripts/dependencies.py --check    fails if a table does not say what Cargo.toml and Cargo.lock do, or if the tree has what
                                       deny.toml forbids: licences, sources, crates, second versions
    scripts/dependencies.py --sbom     prints an SBOM of the wheel's native module (CycloneDX 1.5)

What a dependency is for, and what it would take to do without, is written by hand.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

try:
    import tomllib
except ModuleNotFoundError:
    # Before Python 3.11.
    from pip._vendor import tomli as tomllib

ROOT = Path(__file__).parent.parent
DOC = ROOT / "docs" / "dependencies.md"
PACKAGES = ("murano-messaging", "murano-messaging-python")
# The wheel's.
TARGET = "x86_64-unknown-linux-gnu"

Package = dict[str, Any]


def metadata(*arguments: str) -> dict[str, Any]:
    command = ["cargo", "metadata", "--format-version", "1", *arguments]
    out = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    result: dict[str, Any] = json.loads(out)
    return result


def tree(package: str, *arguments: str) -> list[tuple[int, str]]:
    """Depth and name@version of all that a package is linked with. (The graph of `cargo metadata` has the features that tests
    ask for.)"""
    command = ["cargo", "tree", "--edges=normal", "--prefix=depth", "--no-dedupe", "--format= {p}"]
    command += [f"--package={package}", f"--target={TARGET}", *arguments]
    out = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    lines = [line.split() for line in out.splitlines()]
    return [(int(depth), f"{name}@{version[1:]}") for depth, name, version, *_ in lines]


def by_name() -> dict[str, Package]:
    packages = metadata("--filter-platform", TARGET)["packages"]
    return {f"{package['name']}@{package['version']}": package for package in packages}


def licence(package: Package) -> str:
    return str(package["license"]).replace("/", " OR ")


def source_kib(package: Package) -> int:
    """Of Rust and C, without tests."""
    folder = Path(package["manifest_path"]).parent
    files = [path for kind in ("rs", "c", "h", "S") for path in folder.rglob(f"*.{kind}")]
    skipped = {"tests", "benches", "examples", "target"}
    used = [path for path in files if not skipped & set(path.relative_to(folder).parts)]
    return round(sum(path.stat().st_size for path in used) / 1024)


def rows() -> dict[str, str]:
    """Licence, crates that come with it and size of each direct dependency of what users get, by name."""
    packages = by_name()
    found = {}
    for name in PACKAGES:
        arguments = ["--all-features"] if name == PACKAGES[0] else []
        nodes = tree(name, *arguments)
        for number, (depth, node) in enumerate(nodes):
            crate = packages[node]
            if depth != 1 or crate["source"] is None:
                continue
            below = []
            for depth_below, node_below in nodes[number + 1 :]:
                if depth_below <= 1:
                    break
                below.append(node_below)
            found[crate["name"]] = f"{licence(crate)} | {len(set(below))} | {source_kib(crate):,}"
    return found


def update(check: bool) -> None:
    expected = rows()
    text = DOC.read_text()
    seen = []

    def row(match: re.Match[str]) -> str:
        name, reason, without = match[1], match[2], match[4]
        if name not in expected:
            sys.exit(f"docs/dependencies.md has {name}, which is no direct dependency: remove its row")
        seen.append(name)
        return f"| `{name}` | {reason} | {expected[name]} | {without} |"

    new = re.sub(r"^\| `([\w-]+)` \| ([^|\n]+) \| ([^|\n]*\|[^|\n]*\|[^|\n]*) \| ([^|\n]+) \|$", row, text, flags=re.M)
    missing = sorted(set(expected) - set(seen))
    if missing:
        lines = "\n".join(f"| `{name}` | what for | {expected[name]} | what without |" for name in missing)
        sys.exit(
            f"docs/dependencies.md has no row for {', '.join(missing)}; add, with the first and last column:\n{lines}"
        )
    if check and new != text:
        sys.exit("docs/dependencies.md is out of date: run scripts/dependencies.py")
    DOC.write_text(new)


def forbidden() -> list[str]:
    """What `cargo deny check licenses bans sources` would say, of every crate in Cargo.lock: cargo-deny itself takes minutes to
    compile."""
    policy = tomllib.loads((ROOT / "deny.toml").read_text())
    allowed = set(policy["licenses"]["allow"])
    banned = {entry["crate"] for entry in policy["bans"]["deny"]}
    skipped = {entry["crate"].partition("@")[0] for entry in policy["bans"]["skip"]}
    packages = metadata()["packages"]
    # What Cargo has where a dependency names no registry. One that names a registry or a repository stands out.
    registry = {
        dependency["source"]
        for package in packages
        for dependency in package["dependencies"]
        if package["source"] is None
        and dependency["registry"] is None
        and (dependency["source"] or "").startswith("registry+")
    }
    found = [] if len(registry) == 1 else [f"the dependencies are from {len(registry)} registries"]
    versions: dict[str, set[str]] = {}
    for package in packages:
        name, source = package["name"], package["source"]
        versions.setdefault(name, set()).add(package["version"])
        if name in banned:
            found.append(f"{name} is banned")
        if source is not None and source not in registry:
            found.append(f"{name} is from {source}")
        if not acceptable(licence(package), allowed):
            found.append(f"{name} has the licence {package['license']}")
    for name, several in versions.items():
        if len(several) > 1 and name not in skipped:
            found.append(f"{name} is there in versions {', '.join(sorted(several))}")
    found += [f"{name} is there once: take it out of `skip`" for name in skipped if len(versions.get(name, ())) < 2]
    return found


def acceptable(expression: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression can be met with the allowed licences. `AND` binds closer than `OR`."""
    while "(" in expression:
        inner = re.search(r"\(([^()]*)\)", expression)
        assert inner, expression
        met = "yes" if acceptable(inner[1], allowed) else "no"
        expression = expression.replace(inner[0], met)
    return any(
        all(part == "yes" or part in allowed for part in alternative.split(" AND "))
        for alternative in expression.split(" OR ")
    )


def sbom() -> None:
    packages = by_name()
    nodes = tree("murano-messaging-python")
    lock = (ROOT / "Cargo.lock").read_text()
    entry = r'name = "([^"]+)"\nversion = "([^"]+)"\nsource = "[^"]+"\nchecksum = "([^"]+)"'
    checksums = {f"{name}@{version}": checksum for name, version, checksum in re.findall(entry, lock)}
    needs: dict[str, set[str]] = {node: set() for _, node in nodes}
    path: list[str] = []
    for depth, node in nodes:
        del path[depth:]
        if path:
            needs[path[-1]].add(node)
        path.append(node)

    def component(node: str) -> dict[str, Any]:
        name, _, version = node.partition("@")
        purl = f"pkg:cargo/{node}"
        found = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
        found["licenses"] = [{"expression": licence(packages[node])}]
        if node in checksums:
            found["hashes"] = [{"alg": "SHA-256", "content": checksums[node]}]
        return found

    module = nodes[0][1]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(module)},
        "components": [component(node) for node in sorted(needs) if node != module],
        "dependencies": [
            {"ref": f"pkg:cargo/{node}", "dependsOn": [f"pkg:cargo/{dep}" for dep in sorted(needs[node])]}
            for node in sorted(needs)
        ],
    }
    print(json.dumps(document, indent=1))


def main() -> None:
    if "--sbom" in sys.argv:
        sbom()
    else:
        check = "--check" in sys.argv
        update(check)
        faults = forbidden() if check else []
        if faults:
            sys.exit("deny.toml forbids:\n" + "\n".join(faults))


main()
