"""Writes docs/configuration.md from the settings classes. Run it after a setting has changed."""

from __future__ import annotations

from pathlib import Path

from goclaw.config.reference import configuration_page

PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"


if __name__ == "__main__":
    PAGE.write_text(configuration_page(), encoding="utf-8")
    print(f"wrote {PAGE}")
