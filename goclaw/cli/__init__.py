"""The command line: one module per command group; each asks the daemon, or starts and stops it.

stdout is data and stderr is talk; `--json` prints one JSON document a line; exit codes are those of
`goclaw.cli.exits`. It may import everything below it and nothing imports it but `__main__`.
"""
