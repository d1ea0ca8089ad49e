"""Rows and nothing but rows: one module and one `.sql` file per group of tables.

Each function is a plain `f(conn, ...)` to be run by `Database.write` or `Database.read`. They turn rows into frozen
values and back; they judge nothing.
"""
