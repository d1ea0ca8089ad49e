"""Home and settings: where a goclaw lives, and what its user wants of it.

Promise: settings are whole or refused, with every problem named at once and no secret in any message; one
daemon serves a home. It may import the core, the errors and PyYAML, and starts nothing.
"""
