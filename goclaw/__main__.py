"""The entry point: `goclaw`, or `python -m goclaw`.

`--version` is answered before anything is loaded, and `serve` never loads the command line's library.
"""

from __future__ import annotations

import sys

from goclaw import __version__


def main() -> int:
    """Do what the command line says; the exit code (CONTRACT, section 2). Never a traceback for a user's mistake."""
    arguments = sys.argv[1:]
    if arguments in (["--version"], ["-V"]):
        print(f"goclaw {__version__}")
        return 0
    if arguments[:1] == ["serve"]:
        from goclaw.cli.foreground import serve

        return serve(arguments[1:])
    if not arguments:
        from goclaw.cli.bare import bare

        return bare()
    from goclaw.cli.app import run

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
