"""The licence check lets permissive licences through, and can fail."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.spec("GC-REL-002")

ROOT = Path(__file__).parent.parent


def check(lock: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/licences.py"), str(lock)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def install(site: Path, package: str, licence: str) -> None:
    about = site / f"{package.replace('-', '_')}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {package}\nVersion: 1.0\n{licence}\n")


@pytest.mark.parametrize(
    ("licence", "passes"),
    [
        ("License-Expression: MIT", True),
        ("License-Expression: Apache-2.0 OR BSD-2-Clause", True),
        ("License-Expression: MIT AND PSF-2.0", True),
        ("License-Expression: Apache-2.0 WITH LLVM-exception", True),
        ("Classifier: License :: OSI Approved :: MIT License", True),
        ("License-Expression: GPL-3.0-only OR MIT", True),
        ("License-Expression: MIT AND GPL-3.0-only", False),
        ("License-Expression: (MIT OR BSD-3-Clause) AND GPL-3.0-only", False),
        ("Classifier: License :: OSI Approved :: GNU Affero General Public License v3", False),
        ("License: ask us", False),
        ("Summary: says nothing", False),
    ],
)
def test_a_licence_passes_only_when_it_is_known_and_permissive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, licence: str, passes: bool
) -> None:
    install(tmp_path / "site", "sample-package", licence)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    lock = tmp_path / "some.lock"
    lock.write_text("sample-package==1.0 \\\n    --hash=sha256:00\n")
    done = check(lock)
    assert (done.returncode == 0) is passes, done.stderr
    assert passes or "sample-package: " in done.stderr
    assert "not installed" not in done.stderr


def test_a_package_that_is_not_installed_fails_by_name(tmp_path: Path) -> None:
    lock = tmp_path / "some.lock"
    lock.write_text("never-heard-of-it==1.0 \\\n    --hash=sha256:00\n")
    done = check(lock)
    assert done.returncode == 1
    assert "never-heard-of-it" in done.stderr


def test_a_package_for_another_system_is_not_asked_about(tmp_path: Path) -> None:
    lock = tmp_path / "some.lock"
    lock.write_text("never-heard-of-it==1.0 ; sys_platform == 'win32' \\\n    --hash=sha256:00\n")
    assert check(lock).returncode == 0


def test_what_goclaw_ships_with_passes() -> None:
    done = check(ROOT / "requirements.lock")
    assert done.returncode == 0, done.stderr
