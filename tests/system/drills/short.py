"""The short forms of the drills as tests: what they need, and how they end."""

from __future__ import annotations

import os

import pytest

from tests.system.drills.books import Verdict
from tests.system.drills.layer import NoCompiler, build


def need_layer() -> None:
    """Skip, visibly, where there is no C compiler; where CI runs there must be one."""
    try:
        build()
    except NoCompiler as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


def assert_no_fault(verdict: Verdict) -> None:
    """No fault, and enough done to say so."""
    assert verdict.found == {}, verdict.table()
    assert verdict.facts["acknowledged"] > 0, verdict.table()
