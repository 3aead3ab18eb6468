"""Writes docs/benchmarks.md and its pictures from what a run of the benchmarks has measured.

``page.py SAMPLES PAGE``: ``SAMPLES`` is the folder with ``rust.json``, ``rust-….json`` and ``python.json``, any of
which may be missing; the pictures go to a folder beside ``PAGE`` that has its name.
"""

from __future__ import annotations

import datetime
import json
import pathlib
import platform
import statistics
import sys
from typing import Any, Optional

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

# The same samples make the same file.
matplotlib.rcParams["svg.hashsalt"] = "murano-messaging"

OURS = "#3f51b5"
OTHERS = "#9e9e9e"

HEAD = """# Benchmarks

Written by `make bench` from its own run; do not edit. CPU time is that of the client's process (`getrusage`), user and
kernel, all threads, divided by the number of messages: unlike a rate it depends little on the broker and on what else the
machine does. Each measurement is a process of its own, rounds go through all clients in turn, and the median counts; in
brackets and on the pictures, the lowest and the highest. Compare within a table, never between two runs.
"""


def spread(samples: list[dict[str, float]], key: str) -> tuple[float, float, float]:
    """The lowest, the median and the highest."""
    values = sorted(sample[key] for sample in samples)
    return values[0], statistics.median(values), values[-1]


def normal(sample: dict[str, float]) -> dict[str, float]:
    """The two benchmarks name their figures differently."""
    if "cpu_us" in sample:
        return sample
    cpu = (sample["cpu_user_us"] + sample["cpu_sys_us"]) / sample["messages"]
    kib = sample["rss_kib"] / sample["messages"]
    return {"cpu_us": cpu, "rate": sample["messages"] / sample["seconds"], "kib": kib, "threads": sample["threads"]}


def is_ours(peer: str) -> bool:
    """Whether it is a face of this project."""
    return "ours" in peer


def number(value: float) -> str:
    """Three digits that say something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(rows: list[dict[str, Any]], against: Optional[str]) -> str:
    """One work: a line for each client, with ratios to ours."""
    base = next((row for row in rows if row["peer"] == against and row["samples"]), None)
    text = "| client | CPU \u00b5s/message | messages/s | CPU, as a multiple of ours | rate, as a multiple of ours |\n"
    text += "|---|---:|---:|---:|---:|\n"
    for row in rows:
        if not row["samples"]:
            text += f"| {row['label']} | {(row.get('failure') or 'not measured').splitlines()[0]} | | | |\n"
            continue
        (low, cpu, high), (_, rate, _) = spread(row["samples"], "cpu_us"), spread(row["samples"], "rate")
        ratios = "| | |"
        if base is not None:
            ours, pace = spread(base["samples"], "cpu_us")[1], spread(base["samples"], "rate")[1]
            ratios = f"| {number(cpu / ours)} | {number(rate / pace)} |"
        name = f"**{row['label']}**" if is_ours(row["peer"]) else row["label"]
        text += f"| {name} | {number(cpu)} ({number(low)}\u2013{number(high)}) | {rate:,.0f} {ratios}\n"
    return text


def picture(rows: list[dict[str, Any]], path: pathlib.Path) -> None:
    """Bars of CPU time per message, with the spread over the rounds."""
    rows = [row for row in rows if row["samples"]][::-1]
    figure, axes = plt.subplots(figsize=(7.5, 0.42 * len(rows) + 0.9))
    for place, row in enumerate(rows):
        low, cpu, high = spread(row["samples"], "cpu_us")
        colour = OURS if is_ours(row["peer"]) else OTHERS
        axes.barh(place, cpu, color=colour, xerr=[[cpu - low], [high - cpu]], ecolor="#424242", capsize=2)
        axes.text(high, place, f"  {number(cpu)}", va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [row["label"] for row in rows], fontsize=9)
    axes.set_xlabel("CPU \u00b5s per message: less is better", fontsize=9)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def section(title: str, run: dict[str, Any], prefix: str, folder: pathlib.Path) -> str:
    """All works of one run."""
    kind = "persistent" if run["persistent"] else "transient"
    queue = "quorum" if run.get("quorum") else "classic"
    size = f"{run['messages']:,} messages of {run.get('body_bytes', 256):,} bytes"
    text = f"\n## {title}\n\n{size}, {kind}, {queue} queue; rounds: {run['rounds']}.\n"
    works = list(dict.fromkeys(row["work"] for row in run["rows"]))
    for work in works:
        rows = [row for row in run["rows"] if row["work"] == work]
        for row in rows:
            row["samples"] = [normal(sample) for sample in row["samples"]]
        text += f"\n### {title}: {rows[0]['title']}\n\n"
        if work == "connections":
            text += "| client | connections' memory, KiB each | threads they added |\n|---|---:|---:|\n"
            for row in rows:
                for sample in row["samples"]:
                    text += f"| {row['label']} | {sample['kib']:.0f} | {sample['threads']:.0f} |\n"
            continue
        name = f"{prefix}-{work.replace('_', '-')}.svg"
        picture(rows, folder / name)
        text += f"![CPU per message]({folder.name}/{name})\n\n"
        asyncio = any(row["peer"] == "ours_aio" for row in rows) and not any(row["peer"] == "ours" for row in rows)
        text += table(rows, "ours_aio" if asyncio else "ours")
    if run.get("targets"):
        text += "\nTargets:\n\n" + "".join(f"- {target}\n" for target in run["targets"])
    return text


def machine() -> str:
    """What it was measured on."""
    cpu = "unknown processor"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    load = pathlib.Path("/proc/loadavg").read_text().split()[0]
    cores = len([line for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("processor")])
    day = datetime.date.today().isoformat()
    return (
        f"\nMeasured on {day}: {cpu}, {cores} cores shared with the broker, Linux {platform.release()}, "
        f"Python {platform.python_version()}, RabbitMQ on the same machine; load of the machine at the end: {load}.\n"
    )


def main() -> None:
    """Write the page."""
    samples, page = (pathlib.Path(word) for word in sys.argv[1:])
    folder = page.with_suffix("")
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    text = HEAD + machine()
    python = samples / "python.json"
    # The one with all works comes first, then by the size of bodies.
    runs = [(path.stem, json.loads(path.read_text())) for path in samples.glob("rust*.json")]
    for stem, run in sorted(runs, key=lambda pair: (pair[0] != "rust", pair[1]["body_bytes"], pair[0])):
        title = "Rust" if stem == "rust" else "Rust, " + stem.removeprefix("rust-").replace("-", " ")
        if stem != "rust":
            run["targets"] = []
        text += section(title, run, stem, folder)
    if python.exists():
        for run in json.loads(python.read_text()):
            text += section(f"Python, {run['messages']:,} messages", run, f"python-{run['messages']}", folder)
    page.write_text(text, encoding="utf-8")
    print(page)


main()
