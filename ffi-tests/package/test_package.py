"""What is shipped: the contents of wheel and sdist, and the wheel in a fresh virtualenv of every Python found.

By default both are made on the spot, without optimization; MURANO_TEST_DIST names a folder with others.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

import children
import leaks

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PYTHONS = os.environ.get("MURANO_TEST_PYTHONS", sys.executable).split()

MODULES = {
    "__init__.py",
    "__main__.py",
    *(f"_cli/{path.name}" for path in (ROOT / "python" / "murano_messaging" / "_cli").glob("*.py")),
    "_features.py",
    "_green.py",
    "_listening.py",
    "_native.pyi",
    "_notifications.py",
    "_overwritten.py",
    "_processing.py",
    "_rpc.py",
    "_running.py",
    "_service.py",
    "_types.py",
    "_watcher.py",
    "aio.py",
    "compat/__init__.py",
    "compat/__main__.py",
    "compat/_json.py",
    "compat/_murano.py",
    "compat/_patience.py",
    "compat/_warnings.py",
    "compat/_words.py",
    *(
        f"compat/{package}/{module}.py"
        for package in ("murano_agent", "murano_engine")
        for module in ("__init__", "message", "mqclient", "subscription")
    ),
    "compat/puka/__init__.py",
    "compat/puka/_fields.py",
    "compat/puka/_loop.py",
    "compat/puka/client.py",
    "compat/puka/connection.py",
    "compat/puka/exceptions.py",
    "compat/puka/spec.py",
    "compat/puka/spec_exceptions.py",
    "compat/puka/urlparse.py",
    "errors.py",
    "events.py",
    "opentelemetry.py",
    *(f"oslo/{path.name}" for path in (ROOT / "python" / "murano_messaging" / "oslo").glob("*.py")),
    "py.typed",
}
MURANOCOMMON = {
    "muranocommon/__init__.py",
    "muranocommon/helpers/__init__.py",
    "muranocommon/helpers/token_sanitizer.py",
    *(f"muranocommon/messaging/{module}.py" for module in ("__init__", "message", "mqclient", "subscription")),
}
PUKA = {f"puka/{name}.py" for name in ("__init__", "client", "connection", "exceptions", "spec_exceptions", "urlparse")}


@pytest.fixture(scope="session")
def dist(tmp_path_factory):
    given = os.environ.get("MURANO_TEST_DIST")
    if given:
        return pathlib.Path(given)
    folder = tmp_path_factory.mktemp("dist")
    maturin = [sys.executable, "-m", "maturin", "build", "--compatibility", "off", "--out", str(folder)]
    subprocess.run(maturin, cwd=ROOT, check=True, capture_output=True)
    subprocess.run([ROOT / "scripts" / "sdist.sh", folder], check=True, capture_output=True)
    return folder


optimized = pytest.mark.skipif(
    "MURANO_TEST_DIST" not in os.environ, reason="only of what `make wheel` has built, optimized and for manylinux"
)


@pytest.fixture(scope="session")
def wheel(dist):
    (wheel,) = dist.glob("*.whl")
    return wheel


def test_the_contents_of_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    info = next(name.split("/")[0] for name in names if ".dist-info/" in name)
    expected = {f"murano_messaging/{name}" for name in MODULES | {"_native.abi3.so"}}
    expected |= MURANOCOMMON | PUKA
    expected |= {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    if "MURANO_TEST_DIST" in os.environ:
        expected.add(f"{info}/sboms/murano-messaging.cdx.json")
    assert names == expected
    assert re.fullmatch(r"murano_messaging-[0-9.]+-cp39-abi3-(manylinux_2_\d+|linux)_\w+\.whl", wheel.name)
    assert "Requires-Python: >=3.9" in metadata
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist")]
    assert all("extra ==" in line for line in required), required


def test_the_contents_of_the_sdist(dist):
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    package = {name.removeprefix("python/murano_messaging/") for name in names if "python/murano_messaging/" in name}
    assert package == MODULES
    assert {name.removeprefix("python/") for name in names if "python/muranocommon/" in name} == MURANOCOMMON
    assert {f"python/{name}" for name in PUKA} <= names
    for needed in ("pyproject.toml", "Cargo.toml", "Cargo.lock", "LICENSE", "README.md", "core/src/lib.rs", "PKG-INFO"):
        assert needed in names
    tops = {name.split("/")[0] for name in names}
    assert tops == {
        "core",
        "python",
        "testkit",
        "pyproject.toml",
        "Cargo.toml",
        "Cargo.lock",
        "LICENSE",
        "README.md",
        "PKG-INFO",
    }
    for unwanted in ("tests", "benches", "fuzz", "target", "ffi-tests", "__pycache__"):
        assert not [name for name in names if unwanted in name.split("/")], unwanted


@optimized
def test_the_wheel_runs_on_old_systems(wheel):
    """The C library of RHEL 8, Debian 10 and Ubuntu 20.04 or older; and Python 3.9."""
    minor = re.fullmatch(r"murano_messaging-[0-9.]+-cp39-abi3-manylinux_2_(\d+)_\w+\.whl", wheel.name)
    assert minor, f"{wheel.name} is for no manylinux 2.x"
    assert int(minor[1]) <= 28


@optimized
def test_the_wheel_lists_what_it_is_made_of(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if "/sboms/" in name)
        sbom = json.loads(archive.read(name))
    assert sbom["bomFormat"] == "CycloneDX"
    components = {component["name"]: component for component in sbom["components"]}
    assert {"murano-messaging", "rustls", "tokio", "amq-protocol"} <= set(components)
    # Those of the registry have a checksum and all a licence; what is only for tests is not in it.
    assert components["tokio"]["hashes"] and all(component["licenses"] for component in components.values())
    assert "lapin" not in components and "rcgen" not in components


@pytest.fixture(scope="session")
def unpacked(dist, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (inner,) = folder.iterdir()
    return inner


def test_the_lock_file_of_the_sdist_names_what_it_holds(unpacked):
    command = ["cargo", "metadata", "--locked", "--offline", "--format-version", "1"]
    done = subprocess.run(command, cwd=unpacked, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@optimized
@pytest.mark.timeout(900)
def test_the_module_is_built_from_the_sdist(unpacked):
    command = ["cargo", "build", "--locked", "--offline", "--package", "murano-messaging-python"]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(ROOT / "target" / "sdist")}
    done = subprocess.run(command, cwd=unpacked, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_the_wheel_says_nothing_of_who_built_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if not name.endswith(".so"):
                assert str(ROOT).encode() not in archive.read(name), name


def packed(command: list[str], **options: object) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_contents_of_the_crate():
    listed = packed(["cargo", "package", "-p", "murano-messaging", "--list", "--allow-dirty", "--offline"])
    names = set(listed.split())
    assert {
        "Cargo.toml",
        "Cargo.lock",
        "src/lib.rs",
        "src/readme.md",
        "examples/hello.rs",
        "examples/service.rs",
    } <= names
    # The guides with Rust in them are links in the tree, and files in the package.
    assert {f"src/guides/{path.name}" for path in (ROOT / "core" / "src" / "guides").iterdir()} <= names
    for unwanted in ("tests/", "benches/", "fuzz/", "examples/cluster/"):
        assert not [name for name in names if name.startswith(unwanted)], unwanted
    assert not [name for name in names if name.endswith((".py", ".so", ".svg"))]


@optimized
@pytest.mark.timeout(900)
def test_a_new_project_with_the_packed_crate_runs_the_program_of_the_readme(uri, unique, tmp_path):
    packed(["cargo", "package", "-p", "murano-messaging", "--allow-dirty", "--offline", "--no-verify"])
    (crate,) = (ROOT / "target" / "package").glob("murano-messaging-*.crate")
    with tarfile.open(crate) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("murano-messaging-*")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    program = re.search(r"```rust,no_run\n(.*?)```", readme, re.DOTALL)[1]
    queue = unique("readme")
    program = program.replace("amqp://guest:guest@localhost", uri).replace('"tasks"', f'"{queue}"')
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    (project / "src" / "main.rs").write_text(program)
    (project / "Cargo.toml").write_text(
        '[package]\nname = "first"\nversion = "0.1.0"\nedition = "2024"\n\n[dependencies]\n'
        f'murano-messaging = {{ path = "{unpacked}" }}\n'
        'tokio = { version = "1", features = ["macros", "rt-multi-thread"] }\n'
    )
    # The versions that are here: nothing is fetched.
    shutil.copy(ROOT / "Cargo.lock", project)
    environment = {**os.environ, "CARGO_TARGET_DIR": str(ROOT / "target" / "sdist")}
    command = ["cargo", "run", "--quiet", "--offline"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


SMOKE = """
    import asyncio, logging, os, sys
    import murano_messaging as mm
    from murano_messaging import aio

    uri, queue = sys.argv[1:]
    assert "site-packages" in mm.__file__, mm.__file__

    with mm.connect(uri) as client:
        client.declare_queue(queue, expires=60)
        mm.wait_all([client.publish_nowait({"n": n}, routing_key=queue) for n in range(1000)], timeout=30)
        with client.consume(queue) as deliveries:
            for n, delivery in zip(range(1000), deliveries):
                assert delivery.json() == {"n": n}
                delivery.ack()

    async def main():
        async with aio.connect(uri) as client:
            await client.publish("hello", routing_key=queue)
            async for delivery in client.consume(queue):
                assert delivery.text() == "hello"
                delivery.ack()
                break
            await client.delete_queue(queue)

    asyncio.run(main())
    pid = os.fork()
    if pid == 0:
        with mm.connect(uri) as client:
            client.check_exchange("amq.direct")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    print("ok")
"""


@pytest.mark.parametrize("python", PYTHONS)
def test_the_wheel_works_in_a_fresh_virtualenv(wheel, uri, unique, tmp_path, python):
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True)
    program = tmp_path / "venv" / "bin" / "python"
    pip = [program, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", wheel]
    subprocess.run(pip, check=True)
    assert children.run(SMOKE, uri, unique("q"), python=program, cwd=tmp_path) == "ok\n"
    command = [program.with_name("murano-messaging"), "ping", uri]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.startswith("ok: RabbitMQ")


@optimized
@pytest.mark.timeout(300)
@pytest.mark.parametrize("program", [leaks.SYNC, leaks.ASYNCIO], ids=["sync", "asyncio"])
def test_a_million_messages_leave_nothing_behind(wheel, uri, tmp_path, program):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", wheel]
    subprocess.run(pip, check=True)
    out = children.run(program, uri, "100", python=python, cwd=tmp_path, timeout=280)
    assert float(out) < leaks.allowed(100), f"{out.strip()} MiB more"
