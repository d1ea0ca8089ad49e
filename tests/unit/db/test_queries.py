"""SQL files as named statements."""

from __future__ import annotations

import pytest

from goclaw.db.queries import load_queries, parse_queries

TEXT = """-- A file may begin with a comment.

-- name: one
-- The first.
SELECT 1;

-- name: two
-- The second,
-- in two lines.
SELECT 2
  FROM x;
"""


def test_a_file_is_split_at_its_names() -> None:
    queries = parse_queries(TEXT)
    assert dict(queries) == {"one": "SELECT 1", "two": "SELECT 2\n  FROM x"}
    assert queries.one == queries["one"]
    assert len(queries) == 2


def test_a_query_says_what_it_is_for() -> None:
    with pytest.raises(ValueError, match="what the query is for"):
        parse_queries("-- name: bare\nSELECT 1;\n")


def test_a_name_is_used_once() -> None:
    with pytest.raises(ValueError, match="two queries are named 'one'"):
        parse_queries(TEXT + TEXT)


def test_an_unknown_name_is_an_attribute_error_that_says_which() -> None:
    with pytest.raises(AttributeError, match="no query named 'three'"):
        _ = parse_queries(TEXT).three


def test_the_files_of_the_store_can_be_read() -> None:
    assert "claim" in load_queries("tasks")
