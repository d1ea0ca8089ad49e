"""The system text."""

from __future__ import annotations

from goclaw.brain.prompt import system_text
from goclaw.core.agent import Agent

AGENT = Agent(id="default", display_name="goclaw", soul="\nYou are {curious} and 100% kind.\n")


def test_the_parts_stand_in_a_fixed_order_and_equal_settings_give_equal_bytes() -> None:
    text = system_text(AGENT, "Write tests.\n", "/home/x/workspace")
    soul, rules, conventions = text.split("\n\n")
    assert soul == "You are {curious} and 100% kind."
    assert rules.endswith("/home/x/workspace")
    assert conventions == "Conventions of this project (from AGENTS.md):\nWrite tests."
    assert system_text(AGENT, "Write tests.\n", "/home/x/workspace") == text


def test_empty_parts_leave_no_trace() -> None:
    bare = Agent(id="default", display_name="goclaw", soul="  \n")
    text = system_text(bare, "\n", "/w{}")
    assert text.startswith("You act through tools.")
    assert text.endswith("/w{}")
