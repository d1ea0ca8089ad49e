"""Check that every package of a lock file may be shipped with an MIT program.

    python scripts/licences.py requirements.lock

Reads the metadata of the installed packages, so it runs in an environment made from that lock. A package
passes when its licence is on the list below. Anything else, an unknown licence included, is named, and the
exit code is 1.
"""

import re
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from packaging.requirements import Requirement

PERMISSIVE = {
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "PSF-2.0",
    "Unlicense",
    "Zlib",
}

# Packages older than licence expressions describe themselves in words; these words and what they mean.
IN_WORDS = {
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}


def locked(lock: Path) -> list[str]:
    """Name the packages of the lock file that apply to this system."""
    lines = (line.rstrip(" \\\n") for line in lock.read_text().splitlines())
    found = [Requirement(line) for line in lines if re.match(r"[A-Za-z0-9]", line)]
    return [one.name for one in found if one.marker is None or one.marker.evaluate()]


def licence_of(package: str) -> str:
    """Return the licence that an installed package declares, as an expression where it can be read as one."""
    about = metadata(package)
    if expression := about.get_all("License-Expression", []):
        return str(expression[0])
    classifiers = [text.rsplit(" :: ", 1)[-1] for text in about.get_all("Classifier", []) if "License ::" in text]
    words = [text for text in classifiers if text != "OSI Approved"] or about.get_all("License", [])
    return " AND ".join(IN_WORDS.get(text, text) for text in words)


def permitted(expression: str) -> bool:
    """Tell whether a licence expression allows what we do: all of an AND, one of an OR, no mixtures."""
    if expression in PERMISSIVE:
        return True
    if " OR " in expression:
        return any(part.strip() in PERMISSIVE for part in expression.split(" OR ") if " AND " not in expression)
    return all(part.strip() in PERMISSIVE for part in expression.split(" AND "))


def refused(lock: Path) -> list[str]:
    """List what stands against shipping the packages of the lock file; empty is good."""
    complaints = []
    for package in locked(lock):
        try:
            licence = licence_of(package)
        except PackageNotFoundError:
            complaints.append(f"{package}: not installed here, so its licence is unknown")
            continue
        if not permitted(licence):
            complaints.append(f"{package}: {licence or 'declares no licence'}")
    return complaints


def main(arguments: list[str]) -> int:
    """Run the check over one lock file and return the exit code."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    lock = Path(arguments[0])
    complaints = refused(lock)
    for complaint in complaints:
        print(f"not on the list of licences: {complaint}", file=sys.stderr)
    if not complaints:
        print(f"{len(locked(lock))} packages of {lock}: all under permissive licences")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
