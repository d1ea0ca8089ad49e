"""The manual is made from the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from goclaw.config.reference import configuration_page
from goclaw.config.settings import Settings

PAGE = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"


@pytest.mark.spec("GC-CFG-014")
def test_the_page_in_docs_is_the_one_the_settings_make() -> None:
    made, kept = configuration_page().splitlines(), PAGE.read_text(encoding="utf-8").splitlines()
    stale = [line for line in made if line not in kept] + [line for line in kept if line not in made]
    assert stale == [], "run scripts/make_configuration_doc.py"
    assert made == kept


def test_every_setting_stands_in_the_page_with_its_default() -> None:
    page = configuration_page()
    for name in Settings().redacted():
        assert f"| `{name}` |" in page
    assert "| `worker_count` | integer 1 to 1,024 | `16` | `GOCLAW_WORKER_COUNT` | restart |" in page
    assert "| `agents.<id>.soul` |" in page
    assert "| `schedules[].every` |" in page
