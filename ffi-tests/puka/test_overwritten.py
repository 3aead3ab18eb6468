"""Puka and ours in one environment: they have the same files, and ours says so."""

from __future__ import annotations

import base64
import hashlib
import pathlib
import subprocess
import sys
import zipfile

import pytest

import murano_messaging

SOURCES = pathlib.Path(murano_messaging.__file__).resolve().parent.parent
WHEEL = """Wheel-Version: 1.0
Generator: tests
Root-Is-Purelib: false
Tag: py3-none-any
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of the packages as they are here."""
    files = {}
    for package in ("murano_messaging", "puka", "muranocommon"):
        for source in sorted((SOURCES / package).rglob("*")):
            if source.suffix in (".py", ".pyi", ".so", ".typed"):
                files[source.relative_to(SOURCES).as_posix()] = source.read_bytes()
    return make_wheel(tmp_path_factory.mktemp("wheel"), "murano-messaging", files)


@pytest.fixture(scope="module")
def murano_common(tmp_path_factory):
    """A wheel of the name of Murano's library, which no index has."""
    files = {"muranocommon/__init__.py": b"", "muranocommon/messaging/__init__.py": b""}
    return make_wheel(tmp_path_factory.mktemp("wheel"), "murano-common", files)


def make_wheel(folder, name, files):
    stem = f"{name.replace('-', '_')}-0.0.1"
    path, info = folder / f"{stem}-py3-none-any.whl", f"{stem}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.0.1\n"
    files = {**files, f"{info}/METADATA": metadata.encode(), f"{info}/WHEEL": WHEEL.encode()}
    record = []
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(content)}")
        archive.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,", ""]))
    return path


@pytest.fixture
def environment(tmp_path):
    """A virtual environment; returns what runs a command of its Python."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=120)

    def python(*arguments):
        command = [tmp_path / "venv" / "bin" / "python", "-E", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return python


def imported(python):
    return python("-c", "import murano_messaging")


def checked(python):
    """What ``check`` says; its exit status is that of what is to be done."""
    code = "import sys; from murano_messaging.compat.__main__ import check; print('status', check())"
    return python("-W", "ignore", "-c", code)


# Without it an old pip has distutils install, which leaves newer files alone.
PUKA = ["-m", "pip", "install", "--quiet", "--use-pep517", "--no-deps", "puka==0.0.8"]


def test_alone_it_says_nothing(environment, wheel):
    environment("-m", "pip", "install", "--quiet", wheel)
    assert imported(environment) == ""
    assert "InsecureTLSWarning" in environment("-c", "import puka; print(puka.__all__)")
    said = environment("-m", "murano_messaging.compat", "check")
    assert "puka           ours (murano-messaging 0.0.1)" in said
    assert "muranocommon   ours (murano-messaging 0.0.1)" in said


def test_puka_after_ours(environment, wheel):
    environment("-m", "pip", "install", "--quiet", wheel)
    environment(*PUKA)
    said = imported(environment)
    assert "has overwritten its package 'puka'" in said
    assert "pip uninstall puka" in said and "--force-reinstall" in said
    said = checked(environment)
    assert "puka           the original (murano-messaging 0.0.1, puka 0.0.8): publishes are confirmed" in said
    assert "to do: puka is not ours: pip uninstall puka" in said and "status 1" in said
    # Ours is still there under its own name.
    environment("-W", "ignore", "-c", "import murano_messaging.compat.puka as puka; puka.InsecureTLSWarning")
    environment("-m", "pip", "uninstall", "--quiet", "--yes", "puka")
    assert "are gone" in imported(environment)
    environment("-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", wheel)
    assert imported(environment) == ""


def test_ours_after_puka(environment, wheel):
    environment(*PUKA)
    environment("-m", "pip", "install", "--quiet", wheel)
    assert "is installed too" in imported(environment)
    said = checked(environment)
    assert "puka           ours, but its files belong to murano-messaging 0.0.1, puka 0.0.8" in said
    assert "to do: two distributions have files of puka" in said and "status 1" in said
    assert "True" in environment("-W", "ignore", "-c", "import puka; print(hasattr(puka, 'InsecureTLSWarning'))")
    environment("-m", "pip", "uninstall", "--quiet", "--yes", "puka")
    assert "are gone" in imported(environment)
    environment("-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", wheel)
    assert imported(environment) == ""


def test_murano_common_after_ours(environment, wheel, murano_common):
    environment("-m", "pip", "install", "--quiet", wheel)
    environment("-m", "pip", "install", "--quiet", murano_common)
    said = imported(environment)
    assert "has overwritten its package 'muranocommon'" in said
    assert "pip uninstall murano-common" in said and "--force-reinstall" in said
    environment("-m", "pip", "uninstall", "--quiet", "--yes", "murano-common")
    assert "are gone" in imported(environment)
    assert "muranocommon   is not there" in checked(environment)
    environment("-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", wheel)
    assert imported(environment) == ""
    assert "status 0" in checked(environment)


def test_ours_after_murano_common(environment, wheel, murano_common):
    environment("-m", "pip", "install", "--quiet", murano_common)
    environment("-m", "pip", "install", "--quiet", wheel)
    assert "the distribution 'murano-common' is installed too" in imported(environment)
    environment("-W", "ignore", "-c", "import muranocommon.messaging; muranocommon.messaging.MqClient")
    environment("-m", "pip", "uninstall", "--quiet", "--yes", "murano-common")
    assert "are gone" in imported(environment)
    environment("-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", wheel)
    assert imported(environment) == ""
