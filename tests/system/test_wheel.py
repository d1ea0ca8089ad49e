"""The wheel: built from the checkout, installed somewhere else, and run there."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import goclaw

pytestmark = pytest.mark.spec("GC-REL-001")

ROOT = Path(__file__).parent.parent.parent
SKIPPED = {"__pycache__", ".cache"}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel and the source archive, built offline by the hatchling of this environment."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel installed into a folder of its own, far from the checkout."""
    folder = tmp_path_factory.mktemp("elsewhere")
    wheel = next(dist.glob("*.whl"))
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
        "--no-deps",
    ]
    subprocess.run([*pip, "--target", str(folder), str(wheel)], check=True, capture_output=True)
    return folder


def shipped(folder: str, *patterns: str) -> set[str]:
    """The files of the checkout that must be in the wheel, by their path in it."""
    found = (path for pattern in patterns for path in (ROOT / folder).rglob(pattern) if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in found if not SKIPPED & set(path.parts)}


def test_the_wheel_holds_every_file_of_the_package(dist: Path) -> None:
    names = set(zipfile.ZipFile(next(dist.glob("*.whl"))).namelist())
    expected = shipped("goclaw", "*.py", "*.sql", "*.tcss", "*.yaml", "py.typed")
    expected |= {f"goclaw/{name}" for name in shipped("migrations", "*.sql")}
    assert sorted(expected - names) == []


def test_the_wheel_holds_nothing_but_the_package(dist: Path) -> None:
    names = zipfile.ZipFile(next(dist.glob("*.whl"))).namelist()
    assert {name.split("/")[0] for name in names} == {"goclaw", f"goclaw-{goclaw.__version__}.dist-info"}


def test_the_source_archive_can_build_and_test_itself(dist: Path) -> None:
    top = f"goclaw-{goclaw.__version__}"
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        names = {name.removeprefix(f"{top}/") for name in archive.getnames()}
    by_hand = {
        "pyproject.toml",
        "README.md",
        "SPEC.md",
        "LICENSE",
        "install.sh",
        "requirements.lock",
        "requirements-dev.lock",
    }
    expected = by_hand | shipped("goclaw", "*.py", "*.sql") | shipped("migrations", "*") | shipped("tests", "*.py")
    assert sorted(expected - names) == []


def test_the_installed_wheel_runs_far_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    def run(*command: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(installed)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    assert goclaw.__version__ in run(str(installed / "bin/goclaw"), "--version")
    origin = run(sys.executable, "-c", "import goclaw; print(goclaw.__file__)")
    assert Path(origin.strip()).is_relative_to(installed), "the test ran the checkout instead"


def test_the_installed_wheel_is_typed_and_brings_its_migrations(installed: Path) -> None:
    assert (installed / "goclaw/py.typed").is_file()
    migrations = sorted(path.name for path in (installed / "goclaw/migrations").glob("*.sql"))
    assert migrations == sorted(path.name for path in (ROOT / "migrations").glob("*.sql"))
