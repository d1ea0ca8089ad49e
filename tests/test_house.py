"""The rules of the house that no linter knows, as tests. Each names its offenders."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import goclaw

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "goclaw").rglob("*.py"))
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if ".cache" not in path.parts)
SQL = sorted([*(ROOT / "goclaw").rglob("*.sql"), *(ROOT / "migrations").glob("*.sql")])

LONGEST_FILE = 400
LONGEST_FUNCTION = 60

NOT_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc", "v2", "new", "legacy"}

# The eight places that may catch Exception, and the files that are these places.
CATCHERS = {
    "writer: the caller's future gets it, or the daemon ends": ["goclaw/db/batch.py", "goclaw/db/writer.py"],
    "pool: it becomes an outcome": ["goclaw/kernel/pool.py"],
    "gate: it becomes a tool result": ["goclaw/tools/gate.py"],
    "rpc door: it becomes an error frame": ["goclaw/gateway/rpc.py"],
    "http door: it becomes an error body": ["goclaw/gateway/app.py", "goclaw/gateway/openai.py"],
    "supervisor: the part is started again": ["goclaw/daemon/supervisor.py"],
    "reload: the old stays in force": ["goclaw/config/live.py", "goclaw/policy/live.py"],
    "cli: it becomes an exit code": ["goclaw/cli/app.py"],
}

CLOCK = "goclaw/clock.py"
CLOCK_READS = {
    "time": {
        "time",
        "time_ns",
        "monotonic",
        "monotonic_ns",
        "perf_counter",
        "perf_counter_ns",
        "clock_gettime",
    },
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}

STATE_SETTERS = {"claim", "succeed", "transition"}
SPEC_ID = re.compile(r"\bGC-[A-Z]+-\d{3}\b")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def nodes(paths: list[Path]) -> Iterator[tuple[str, ast.AST]]:
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
            yield name_of(path), node


def test_no_source_file_is_longer_than_a_reader_can_hold() -> None:
    sizes = {name_of(path): len(path.read_text().splitlines()) for path in [*SOURCES, *SQL]}
    assert {name: size for name, size in sizes.items() if size > LONGEST_FILE} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{name}:{node.lineno} {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for name, node in nodes(SOURCES)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= LONGEST_FUNCTION
    ]
    assert long == []


def test_module_names_say_what_is_inside() -> None:
    paths = {name_of(path.with_suffix("")) for path in SOURCES}
    assert [path for path in sorted(paths) if NOT_NAMES & set(re.split(r"[/_]", path))] == []


def test_every_package_says_what_it_promises() -> None:
    packages = [path for path in SOURCES if path.name == "__init__.py"]
    assert [name_of(path) for path in packages if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_every_folder_with_python_is_a_package() -> None:
    folders = {path.parent for path in SOURCES}
    assert [name_of(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_exception_is_caught_in_the_eight_named_places_only() -> None:
    allowed = {file for files in CATCHERS.values() for file in files}
    caught = [
        f"{name}:{node.lineno}"
        for name, node in nodes(SOURCES)
        if isinstance(node, ast.ExceptHandler) and _catches_all(node) and name not in allowed
    ]
    assert caught == []


def _catches_all(handler: ast.ExceptHandler) -> bool:
    """A handler that ends in a bare `raise` cleans up and catches nothing."""
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {kind.id for kind in kinds if isinstance(kind, ast.Name)}
    last = handler.body[-1]
    passes_on = isinstance(last, ast.Raise) and last.exc is None
    return (None in kinds or bool(names & {"Exception", "BaseException"})) and not passes_on


def test_one_module_reads_the_clock() -> None:
    reads = [
        f"{name}:{node.lineno} {what}"
        for name, node in nodes(SOURCES)
        if name != CLOCK and isinstance(node, ast.Attribute | ast.ImportFrom) and (what := _clock_read(node))
    ]
    assert reads == []


def _clock_read(node: ast.Attribute | ast.ImportFrom) -> str | None:
    """`time.monotonic`, `datetime.now` and so on, or their import by name."""
    if isinstance(node, ast.ImportFrom):
        taken = CLOCK_READS["time"] & {alias.name for alias in node.names} if node.module == "time" else set()
        return f"from time import {', '.join(sorted(taken))}" if taken else None
    owner = node.value
    holder = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
    return f"{holder}.{node.attr}" if node.attr in CLOCK_READS.get(holder, ()) else None


def test_nothing_is_left_for_later_in_the_sources() -> None:
    later = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3]) + r")\b")
    texts = [*SOURCES, *TESTS, *SQL, *(ROOT / "scripts").glob("*"), ROOT / "install.sh"]
    found = [
        f"{name_of(path)}:{number}"
        for path in texts
        if path.is_file()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if later.search(line)
    ]
    assert found == []


def test_claim_and_transition_alone_set_the_state_of_a_task() -> None:
    blocks = [
        (name_of(path), *block.partition("\n")[::2])
        for path in sorted((ROOT / "goclaw/store").glob("*.sql"))
        for block in re.split(r"^-- name:\s*", path.read_text(), flags=re.MULTILINE)[1:]
    ]
    sets_state = re.compile(r"\bUPDATE\s+tasks?\s+SET\b(?:(?!\bWHERE\b).)*?\bstate\s*=", re.IGNORECASE | re.DOTALL)
    setters = {(file, name.strip()) for file, name, sql in blocks if sets_state.search(sql)}
    assert setters <= {("goclaw/store/tasks.sql", name) for name in STATE_SETTERS}
    assert not blocks or {"claim", "transition"} <= {name for _, name in setters}


def test_no_sql_that_writes_tasks_hides_in_python() -> None:
    writes = re.compile(r"\b(UPDATE|INSERT INTO|DELETE FROM)\s+tasks?\b")
    assert [name_of(path) for path in SOURCES if writes.search(path.read_text())] == []


def test_every_requirement_has_a_test_and_every_test_a_requirement() -> None:
    spec = ROOT / "SPEC.md"
    if not spec.is_file():
        return  # test_wheel.py asks for the file itself
    written = set(SPEC_ID.findall(spec.read_text()))
    held: dict[str, str] = {}
    for path in TESTS:
        if path != Path(__file__):
            held.update(dict.fromkeys(SPEC_ID.findall(path.read_text()), name_of(path)))
    assert sorted(written - held.keys()) == [], "in SPEC.md, but no test holds them"
    assert {one: file for one, file in held.items() if one not in written} == {}, "in tests, but not in SPEC.md"


def test_the_version_is_the_same_wherever_it_is_written() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert goclaw.__version__ == project["version"]


def test_the_locks_are_hashed_and_name_no_host() -> None:
    for lock in sorted(ROOT.glob("requirements*.lock")):
        text = lock.read_text()
        requirements = re.findall(r"^[A-Za-z0-9].*(?:\n .*)*", text, flags=re.MULTILINE)
        assert requirements, lock.name
        assert [one for one in requirements if "==" not in one or "--hash=sha256:" not in one] == [], lock.name
        assert "://" not in text, lock.name
        assert "--index" not in text, lock.name


def test_the_development_lock_tests_what_the_runtime_lock_ships() -> None:
    pins = {
        lock: set(re.findall(r"^([A-Za-z0-9].*==\S+)", (ROOT / lock).read_text(), flags=re.MULTILINE))
        for lock in ("requirements.lock", "requirements-build.lock", "requirements-dev.lock")
    }
    shipped = pins["requirements.lock"] | pins["requirements-build.lock"]
    assert sorted(shipped - pins["requirements-dev.lock"]) == []


def test_every_library_of_the_project_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[<>=]", one)[0] for one in project["dependencies"]]
    why = (ROOT / "docs/why.md").read_text()
    assert [name for name in names if name not in why] == []
