#!/usr/bin/env python3
"""Prints circles between the modules of core/src/engine/ and fails on those that are not excused.

Compared are the modules of the engine with each other, a folder being one, and in each folder its files. The root of the
engine and of a folder (mod.rs) is left out: its type is what the files implement. Tests are left out, too.

An excuse names one edge, "user -> used", and why it stays. Without the excused edges there must be no circle, and each
excused edge must be part of one.
"""

import re
import sys
from pathlib import Path

ENGINE = Path(__file__).resolve().parent.parent / "core" / "src" / "engine"

EXCUSED: dict[str, str] = {
    "consumer/prefetch -> consumer/machine": "a part of the machine with a file of its own",
    "publish/deadlines -> publish/window": "a part of the window with a file of its own",
    "publish/wire -> publish/window": "a part of the window with a file of its own",
}

PATH = re.compile(r"\b(?:crate::engine|super|self)(?:::(?:super|[A-Za-z_]\w*))*(?:::\{)?")


def code(text: str) -> str:
    """The text without comments, strings and tests."""
    text = text.split("#[cfg(test)]")[0]
    text = re.sub(r"//[^\n]*", "", text)
    return re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)


def leaves(text: str, at: int, prefix: list[str]) -> tuple[list[list[str]], int]:
    """The paths of a tree of uses whose brace was opened before `at`, and where it ends."""
    paths: list[list[str]] = []
    part: list[str] = []
    for match in re.compile(r"\w+|::|\{|\}|,|\*").finditer(text, at):
        if match.start() < at:
            continue
        token = match.group()
        if token == "{":
            inner, at = leaves(text, match.end(), prefix + part)
            paths += inner
            part = []
        elif token in (",", "}"):
            if part:
                paths.append(prefix + part)
            part = []
            if token == "}":
                return paths, match.end()
        elif token != "::" and token != "as":
            part.append(token)
    return paths, len(text)


def references(text: str, module: list[str]) -> list[list[str]]:
    """What a file refers to, as paths from the root of the engine."""
    found = []
    for match in PATH.finditer(text):
        parts = match.group().removesuffix("{").removesuffix("::").split("::")
        paths = [parts]
        if match.group().endswith("{"):
            paths, _ = leaves(text, match.end(), parts)
        for path in paths:
            at, rest = list(module), list(path)
            if rest[:2] == ["crate", "engine"]:
                at, rest = [], rest[2:]
            elif rest[0] == "self":
                rest = rest[1:]
            while rest and rest[0] == "super":
                if not at:
                    break
                at, rest = at[:-1], rest[1:]
            if "super" not in rest:
                found.append(at + rest)
    return found


def graphs() -> dict[str, dict[str, set[str]]]:
    """The uses between the modules of the engine, and between the files of each of its folders."""
    files = {}
    for file in sorted(ENGINE.rglob("*.rs")):
        parts = list(file.relative_to(ENGINE).with_suffix("").parts)
        if parts[-1].endswith("tests") or parts == ["mod"]:
            continue
        # In the root of a folder, `self` is the folder and `super` what is above it.
        files[tuple(parts)] = references(code(file.read_text()), parts[:-1] if parts[-1] == "mod" else parts)
    result: dict[str, dict[str, set[str]]] = {}
    folders = {""} | {parts[0] for parts in files if len(parts) > 1}
    for folder in sorted(folders):
        depth = 1 if folder else 0
        inside = {parts: used for parts, used in files.items() if not folder or parts[0] == folder}
        names = {parts[depth] for parts in inside if len(parts) > depth} - {"mod"}
        graph: dict[str, set[str]] = {name: set() for name in names}
        for parts, used in inside.items():
            name = parts[depth]
            if name == "mod":
                continue
            for path in used:
                if len(path) > depth and (not folder or path[0] == folder) and path[depth] in names - {name}:
                    graph[name].add(path[depth])
        result[folder] = graph
    return result


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that use each other, directly or by others."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for used in graph[todo.pop()] - seen:
                seen.add(used)
                todo.append(used)
        return seen

    reach = {name: reachable(name) for name in graph}
    groups = {
        tuple(sorted(other for other in reach[name] if name in reach[other])) for name in graph if name in reach[name]
    }
    return [list(group) for group in sorted(groups)]


def main() -> int:
    """Prints what it finds; 1 if something has to be done about it."""
    failed = False
    excused = set(EXCUSED)
    for folder, graph in graphs().items():
        where = f"{folder}/" if folder else ""
        in_circles = {
            f"{where}{user} -> {where}{used}"
            for group in circles(graph)
            for user in group
            for used in graph[user]
            if used in group
        }
        excused -= in_circles
        rest = {
            user: {used for used in uses if f"{where}{user} -> {where}{used}" not in EXCUSED}
            for user, uses in graph.items()
        }
        for group in circles(rest):
            failed = True
            print(f"engine/{where}: a circle of {', '.join(group)}:")
            for user in group:
                print(f"    {where}{user} -> {', '.join(where + used for used in sorted(rest[user] & set(group)))}")
    for edge in sorted(excused):
        failed = True
        print(f"scripts/circles.py excuses '{edge}', which is part of no circle (any more): take it out")
    if failed:
        print("Break the circle, or name one of its edges with the reason in EXCUSED of scripts/circles.py.")
    else:
        for edge, reason in EXCUSED.items():
            print(f"excused: {edge}: {reason}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
