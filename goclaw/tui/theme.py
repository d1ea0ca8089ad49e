"""The colours: calm, dark, readable beside each other by people who see no red or green."""

from __future__ import annotations

from textual.theme import Theme

THEME = Theme(
    name="goclaw",
    primary="#7aa2c8",
    secondary="#9d8fc0",
    accent="#e0a458",
    warning="#e0c067",
    error="#e07a6a",
    success="#86b98c",
    foreground="#d6d9de",
    background="#15181d",
    surface="#1b1f26",
    panel="#232830",
    dark=True,
    variables={"block-cursor-text-style": "none", "input-selection-background": "#7aa2c8 35%"},
)
