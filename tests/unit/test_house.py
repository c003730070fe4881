# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The house rules: what every plugin, role, playbook and schema of the collection must have."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "tidegate.release."
TESTS = ("tests", "molecule", "examples")
DOCUMENTED = ("modules", "lookup", "inventory", "callback", "filter")


def _plugins(kind: str) -> list[Path]:
    return sorted(path for path in (ROOT / "plugins" / kind).glob("*.py") if not path.stem.startswith("_"))


def _constants(path: Path) -> dict[str, str]:
    """The string constants at module level, read without importing."""
    found: dict[str, str] = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found.update({target.id: node.value.value for target in node.targets if isinstance(target, ast.Name)})
    return found


def _options(documentation: dict[str, Any]) -> set[str]:
    options = set(documentation.get("options", {}))
    for fragment in documentation.get("extends_documentation_fragment", []):
        if fragment.startswith(PREFIX):
            name, part = (fragment.removeprefix(PREFIX) + ".").split(".")[:2]
            fragment_class = ast.parse((ROOT / "plugins" / "doc_fragments" / f"{name}.py").read_text())
            for node in ast.walk(fragment_class):
                if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == (part or "documentation").upper():
                    options |= set(yaml.safe_load(ast.literal_eval(node.value)).get("options", {}))
    for name in tuple(options):
        options |= set(documentation.get("options", {}).get(name, {}).get("aliases", []))
    return options


def _ids(paths: list[Path]) -> list[Any]:
    return [pytest.param(path, id=f"{path.parent.name}/{path.stem}") for path in paths]


PLUGINS = [path for kind in DOCUMENTED for path in _plugins(kind)]
MODULES = _plugins("modules")
ROLES = sorted(path for path in (ROOT / "roles").glob("*") if path.is_dir())
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))
SCHEMAS = sorted((ROOT / "plugins" / "plugin_utils" / "schemas").glob("*.json"))


@cache
def _text(*rooms: str) -> str:
    """All that the files of the rooms say, this one left out."""
    files = (path for room in rooms for path in sorted((ROOT / room).rglob("*")) if path.suffix in {".py", ".yml", ".yaml", ".j2"})
    return "\n".join(path.read_text() for path in files if path != Path(__file__).resolve())


def _tasks(play_or_task: Any) -> Iterator[dict[str, Any]]:
    if isinstance(play_or_task, list):
        for entry in play_or_task:
            yield from _tasks(entry)
    elif isinstance(play_or_task, dict):
        yield play_or_task
        for key in ("tasks", "block", "rescue", "always", "pre_tasks", "post_tasks", "handlers"):
            yield from _tasks(play_or_task.get(key))


@pytest.mark.parametrize("path", _ids(PLUGINS))
def test_every_plugin_documents_itself(path: Path) -> None:
    constants = _constants(path)
    documentation = yaml.safe_load(constants.get("DOCUMENTATION", ""))
    assert documentation, "DOCUMENTATION is missing"
    assert documentation["short_description"]
    assert documentation["description"]
    assert documentation["author"]
    assert documentation["version_added"]
    if path.parent.name != "callback":
        assert list(yaml.safe_load_all(constants.get("EXAMPLES", ""))), "EXAMPLES is missing"
    if path.parent.name in {"modules", "lookup", "filter"}:
        assert yaml.safe_load(constants.get("RETURN", "")), "RETURN is missing"


@pytest.mark.parametrize("path", _ids(MODULES))
def test_every_module_example_uses_documented_options_only(path: Path) -> None:
    constants = _constants(path)
    known = _options(yaml.safe_load(constants["DOCUMENTATION"]))
    used = [task[PREFIX + path.stem] for task in _tasks(yaml.safe_load(constants["EXAMPLES"])) if PREFIX + path.stem in task]
    assert used, f"no example uses {PREFIX}{path.stem}"
    for options in used:
        assert set(options or {}) <= known


@pytest.mark.parametrize("path", _ids(_plugins("action")))
def test_every_action_has_the_module_that_documents_it(path: Path) -> None:
    assert (ROOT / "plugins" / "modules" / path.name).is_file()


@pytest.mark.parametrize("path", _ids(MODULES))
def test_every_module_is_used_by_a_role_a_playbook_or_a_test(path: Path) -> None:
    assert re.search(rf"\b{re.escape(PREFIX + path.stem)}\b", _text("roles", "playbooks", "plugins/action", "plugins/plugin_utils", *TESTS))


@pytest.mark.parametrize("role", [pytest.param(role, id=role.name) for role in ROLES])
def test_every_role_specifies_its_arguments_and_is_used(role: Path) -> None:
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    entry_points = {path.stem for path in (role / "tasks").glob("*.yml") if not path.stem.startswith("_")}
    assert set(specs) == entry_points, "one spec for each entry point; a task file that is none starts with _"
    for name, spec in specs.items():
        assert spec["short_description"], name
        for option, details in spec.get("options", {}).items():
            assert option.startswith(("tidegate_", f"{role.name}_")), f"{option} lacks the prefix tidegate_ or {role.name}_"
            assert details["description"], option
            # Of a missing variable Ansible would print the whole spec; the role's action says it in a line. Only audit's comes from a task.
            assert option == "audit_hosts" or not details.get("required"), option
    assert re.search(rf"\b{re.escape(PREFIX + role.name)}\b", _text("playbooks", *TESTS))


@pytest.mark.parametrize("path", _ids(PLAYBOOKS))
def test_every_playbook_says_what_it_does_and_is_tested(path: Path) -> None:
    assert path.read_text().lstrip("-\n").startswith("#"), "begin with a comment that says what it does"
    assert re.search(rf"{re.escape(PREFIX + path.stem)}\b|playbooks/{path.name}", _text(*TESTS))


@pytest.mark.parametrize("path", _ids(SCHEMAS))
def test_every_schema_is_a_valid_json_schema(path: Path) -> None:
    schema = json.loads(path.read_text())
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"]
    jsonschema.Draft202012Validator.check_schema(schema)


def test_no_symlink_is_tracked() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    tracked = subprocess.run(["git", "ls-files", "--stage"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert [line for line in tracked.splitlines() if line.startswith("120000")] == []


def test_the_version_is_the_same_everywhere() -> None:
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    released = yaml.safe_load((ROOT / "changelogs" / "changelog.yaml").read_text())["releases"]
    assert version in released or (ROOT / "changelogs" / "fragments" / f"{version}.yml").is_file()


def test_no_task_waits_for_the_format_checkers_of_jsonschema() -> None:
    """Loading jsonschema takes two seconds of each process where a requirement brings the grammar of IRIs along, which nobody uses."""
    done = subprocess.run([sys.executable, "-c", "import jsonschema, sys; sys.exit('lark' in sys.modules)"], check=False)
    assert done.returncode == 0


def test_no_role_is_begun_by_ansibles_own_check_of_its_arguments() -> None:
    """It prints the whole specification when one is missing; the task of the role says so in one line."""
    for path in (*ROOT.glob("playbooks/*.yml"), *ROOT.glob("roles/*/tasks/*.yml")):
        text = path.read_text()
        assert len(re.findall(r"\b(?:include|import)_role:", text)) == text.count("rolespec_validate: false"), path


# --- tests lie where what they test lies -------------------------------------------------------------------------------------------------

# Rooms of tests/unit that are none of plugin_utils, each with what it tests. Right in tests/unit are the tests of plugin_utils' ground, ...
ROOMS = {kind: kind for kind in ("action", "callback", "inventory", "lookup", "modules")} | {
    "host": "module_utils",
    "lab": "module_utils/lab",
}
# ... and those of no file of plugins.
ABOUT_NO_FILE = frozenset({"components", "examples", "house", "install", "kill_points", "oldest_python", "pages", "project", "schemas"})


def _about_nothing(files: set[str], tests: set[str]) -> list[str]:
    """The tests, paths below tests/unit, that are named after no file, paths below plugins. What is no test belongs into tests/support."""
    found = []
    for test in sorted(tests):
        room, _slash, name = test.removesuffix(".py").rpartition("/")
        words = name.split("_")
        place = ROOMS.get(room, f"plugin_utils/{room}".rstrip("/"))
        named = {f"{place}/{'_'.join(words[1:end])}.py" for end in range(2, len(words) + 1)}
        if name != "conftest" and not (words[0] == "test" and (named & files or (not room and "_".join(words[1:]) in ABOUT_NO_FILE))):
            found.append(test)
    return found


def test_every_test_is_named_after_what_it_tests() -> None:
    plugins, tests = ROOT / "plugins", ROOT / "tests" / "unit"
    files = {path.relative_to(plugins).as_posix() for path in plugins.rglob("*.py")}
    assert _about_nothing(files, {path.relative_to(tests).as_posix() for path in tests.rglob("*.py")}) == []


@pytest.mark.parametrize(
    ("test", "fine"),
    [
        ("dsl/test_layout.py", True),
        ("dsl/test_layout_upkeep.py", True),
        ("host/test_repair.py", True),
        ("test_keys.py", True),
        ("test_house.py", True),
        ("dsl/conftest.py", True),
        ("dsl/test_upkeep.py", False),
        ("dsl/test_keys.py", False),
        ("dsl/test_house.py", False),
        ("dsl/releases.py", False),
        ("test_layout.py", False),
        ("nowhere/test_layout.py", False),
    ],
)
def test_a_test_of_nothing_is_found(test: str, fine: bool) -> None:
    files = {"plugin_utils/dsl/layout.py", "plugin_utils/keys.py", "module_utils/repair.py"}
    assert _about_nothing(files, {test}) == ([] if fine else [test])


_WALL = frozenset({"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "time", "time_ns"})


def _wall_clock(source: str) -> list[int]:
    """The lines that assert something of the time on the wall, which says how busy the machine is, or of what was reckoned with it."""
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    rest = ast.Module([node for node in tree.body if not isinstance(node, (ast.ClassDef, ast.FunctionDef))], [])
    found: set[int] = set()
    for scope in (*functions, rest):
        reckoned: set[str] = set()
        for node in ast.walk(scope):
            if isinstance(node, ast.Assign) and _is_timed(node.value, reckoned if isinstance(node.value, (ast.BinOp, ast.Name)) else set()):
                reckoned.update(name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name))
        found.update(node.lineno for node in ast.walk(scope) if isinstance(node, ast.Assert) and _is_timed(node, reckoned))
    return sorted(found)


def _is_timed(part: ast.AST, reckoned: set[str]) -> bool:
    """Whether the clock is called in it, or one of the names is there that were reckoned with it."""
    names = {node.id for node in ast.walk(part) if isinstance(node, ast.Name)}
    calls = {ast.unparse(node.func) for node in ast.walk(part) if isinstance(node, ast.Call)}
    return not reckoned.isdisjoint(names) or not calls.isdisjoint({*_WALL} - {"time"} | {f"time.{name}" for name in _WALL})


def test_no_test_asserts_how_long_something_took() -> None:
    found = {str(path.relative_to(ROOT)): _wall_clock(path.read_text()) for path in sorted((ROOT / "tests").rglob("*.py"))}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("assert time.monotonic() - begun < 5", [1]),
        ("assert perf_counter() - begun < 5", [1]),
        ("def f():\n    begun = time.time()\n    took = time.process_time() - begun\n    assert took < 5", [4]),
        ("assert time.process_time() - begun < 5", []),
        ("begun = time.monotonic()", []),
    ],
)
def test_an_assertion_of_the_wall_clock_is_found(line: str, found: list[int]) -> None:
    assert _wall_clock(line) == found


_APPENDS = re.compile(r"insert\(\s*[\w.()]*\b(history|journal)\s*\)|\b(history|journal)\.insert\(")


@pytest.mark.parametrize(
    ("source", "found"), [("sa.insert(t.history)", True), ("self._t.journal.insert()", True), ("sa.insert(t.journal_archive)", False)]
)
def test_an_insert_is_seen(source: str, found: bool) -> None:
    assert bool(_APPENDS.search(source)) is found


def test_only_the_chain_appends_to_history_and_journal() -> None:
    # Any other line has no link to the one before it, so cmdb_verify would call it inserted.
    below = ROOT / "plugins" / "plugin_utils"
    files = [path for path in below.rglob("*.py") if "migrations" not in path.parts]
    assert [str(path.relative_to(below)) for path in files if _APPENDS.search(path.read_text())] == []


# --- the map of plugin_utils: docs/architecture.md says which files there are, in which order rooms may import, and which are pure -----

# What a pure file may not import, call or touch. A path may be put together, not looked at.
_TALKS = frozenset(
    {
        *("alembic", "ansible", "ansible_runner", "apprise", "asyncio", "concurrent", "ctypes", "fcntl", "getpass", "glob"),
        *("gzip", "http", "importlib", "io", "logging", "mmap", "multiprocessing", "os", "platform", "random"),
        *("requests", "resource", "secrets", "select", "shutil", "signal", "socket", "sqlalchemy", "sqlite3", "ssl"),
        *("subprocess", "sys", "tarfile", "tempfile", "threading", "time", "urllib.request", "uuid", "zipfile"),
    }
)
_DOES = frozenset(
    {
        *("absolute", "chmod", "cwd", "exists", "expanduser", "glob", "hardlink_to", "home", "is_dir", "is_file"),
        *("is_symlink", "iterdir", "lstat", "mkdir", "now", "open", "read_bytes", "read_text", "readlink", "rename"),
        *("resolve", "rglob", "rmdir", "stat", "symlink_to", "today", "touch", "unlink", "utcnow", "write_bytes"),
        "write_text",
    }
)
_BUILT_IN = frozenset({"eval", "exec", "input", "open", "print"})
# What pure files may use of files that are not: each was looked at, and does none of that.
_HARMLESS = frozenset(
    {
        *("activity.listed", "activity.noted", "documents.Document", "documents.Place", "documents.check_endpoint"),
        *("documents.check_placeholders", "documents.parse_time", "files.copy_hashing", "keys.load_public", "libs.require"),
        *("module_utils.redaction.NOTHING", "module_utils.redaction.Redactor", "module_utils.release_home.DIGEST"),
        *("module_utils.release_home.VERSION", "settings.flag", "settings.has_login"),
    }
)
_COLLECTION = "ansible_collections.tidegate.release.plugins"
_BY_NAME = ("import_module", "__import__")
_READS_DOCUMENTATION = "actions.documentation"  # of modules that it knows by name only


class Layout:
    """The modules of plugin_utils, each a dotted name with its source, held against the map in ``docs/architecture.md``.

    The map has a line for each room, uppermost first: its name, or ``ground`` for the files that are in none, and its files, ``*`` behind
    those that are pure. A room within a room is written ``clearance/controls``. ``hosts`` are the modules of module_utils, below all.
    """

    def __init__(self, sources: dict[str, str], written: str, hosts: dict[str, str] | None = None) -> None:
        self.hosts = {f"module_utils.{name}": source for name, source in (hosts or {}).items()}
        self.sources = sources
        self.trees = {name: ast.parse(source) for name, source in {**sources, **self.hosts}.items()}
        self.order: list[str] = []
        self.mapped: set[str] = set()
        self.pure: set[str] = set()
        for line in written.splitlines():
            place, *files = line.split()
            room = "" if place == "ground" else place.split("/")[0]
            self.order += [] if room in self.order else [room]
            for file in files:
                name = ".".join([*([] if place == "ground" else place.split("/")), file.rstrip("*")])
                self.mapped.add(name)
                if file.endswith("*"):
                    self.pure.add(name)

    @classmethod
    def read(cls) -> Layout:
        def sources(below: Path) -> dict[str, str]:
            paths = [path for path in below.rglob("*.py") if below / "cmdb" / "migrations" not in path.parents]
            return {".".join(path.relative_to(below).with_suffix("").parts): path.read_text() for path in paths}

        page = (ROOT / "docs" / "architecture.md").read_text()
        written = re.search(r"```text\n(command .*?)```", page, re.DOTALL)
        assert written, "docs/architecture.md has no map"
        return cls(sources(ROOT / "plugins" / "plugin_utils"), written[1], sources(ROOT / "plugins" / "module_utils"))

    def faults(self) -> list[str]:
        """What is not as the map says, or as no map may allow."""
        named = {name: list(self._imports(name, ast.walk(tree))) for name, tree in self.trees.items()}
        imports = {name: {module for module, _entry in found if module in self.sources} for name, found in named.items()}
        found = [f"{name} is on no map" for name in sorted(self.sources.keys() - self.mapped)]
        found += [f"{name} is on the map only" for name in sorted(self.mapped - self.sources.keys())]
        for name, others in sorted(named.items()):
            for other in sorted({other for other, _entry in others if not self._may_import(name, other)}):
                found.append(f"{name} imports {other}, which is not below it")
        found += [f"{' and '.join(circle)} import each other" for circle in _circles(imports)]
        for name in sorted(self.pure & self.sources.keys()):
            found += [f"{name} is no pure file: {why}" for why in self._impure(name)]
        return found

    def _may_import(self, name: str, other: str) -> bool:
        if other in self.hosts:
            return True
        if other not in self.sources or name in self.hosts:
            return False
        return self._room(name) == self._room(other) or self._height(name) > self._height(other)

    def _room(self, name: str) -> str:
        return name.partition(".")[0] if "." in name else ""

    def _height(self, name: str) -> int:
        room = self._room(name)
        return -self.order.index(room) if room in self.order else -len(self.order)

    def _imports(self, name: str, nodes: Iterable[ast.AST]) -> Iterator[tuple[str, str]]:
        """The modules of the collection that are imported among nodes, and what of them, ``""`` for the module itself.

        One of plugin_utils is named as in ``sources``, any other from ``plugins`` on.
        """
        place = [*_COLLECTION.split("."), *(name.split(".") if name in self.hosts else ["plugin_utils", *name.split(".")])]
        for node in nodes:
            if isinstance(node, ast.Import):
                wanted = [entry.name for entry in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = ".".join([*(place[: -node.level] if node.level else []), *filter(None, [node.module])])
                wanted = [f"{base}.{entry.name}" for entry in node.names]
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in _BY_NAME:
                wanted = [self._called(name, node)]
            else:
                continue
            for full in wanted:
                if full.startswith(f"{_COLLECTION}."):
                    found = self._module(full.removeprefix(f"{_COLLECTION}."), isinstance(node, ast.ImportFrom))
                    if found[0] != name:
                        yield found

    def _module(self, path: str, from_import: bool) -> tuple[str, str]:
        for module, entry in ((path, ""), (path.rpartition(".")[0], path.rpartition(".")[2])):
            if (name := module.removeprefix("plugin_utils.")) in self.trees:
                return name, entry
        return path.rpartition(".")[0] if from_import else path, ""

    def _called(self, name: str, node: ast.Call) -> str:
        """What a file imports by a text, as with ``import_module``; where that is made up it may be anything."""
        given = node.args[0] if node.args else None
        if isinstance(given, ast.Constant) and not str(given.value).startswith("."):
            return str(given.value)
        return "" if name == _READS_DOCUMENTATION else f"{_COLLECTION}.something"

    def _impure(self, name: str) -> Iterator[str]:
        """What a pure file does or needs that it must not. What only types are imported for is not needed when it runs."""
        nodes = list(_running(self.trees[name]))
        for other, entry in sorted(set(self._imports(name, nodes))):
            if other not in self.pure and f"{other}.{entry}" not in _HARMLESS:
                yield f"it needs {f'{other}.{entry}'.rstrip('.')}, which is none"
        for node in nodes:
            modules = [entry.name for entry in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module or "", *(f"{node.module}.{entry.name}" for entry in node.names)]
            yield from (f"it imports {module}" for module in modules if module in _TALKS or module.split(".")[0] in _TALKS)
            # A name is enough: what is handed on is called elsewhere.
            if isinstance(node, ast.Attribute) and node.attr in _DOES and ast.unparse(node) != "facts.now":
                yield f"line {node.lineno} calls {node.attr}()"
            if isinstance(node, ast.Name) and node.id in _BUILT_IN:
                yield f"line {node.lineno} calls {node.id}()"


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """A node and those in it, without what is there for types alone."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return
    yield node
    for inner in ast.iter_child_nodes(node):
        yield from _running(inner)


def _circles(imports: dict[str, set[str]]) -> list[tuple[str, ...]]:
    """The files that import each other, directly or not."""
    reached = {name: _reach(imports, name) for name in imports}
    return sorted(
        {tuple(sorted({name, *(other for other in reached[name] if name in reached[other])})) for name in imports if name in reached[name]}
    )


def _reach(imports: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    left = list(imports[start])
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += imports.get(name, ())
    return found


def test_plugin_utils_is_as_its_map_says() -> None:
    assert Layout.read().faults() == []


GOOD = {"errors": "", "files": "import os", "top.a": "from ..low.b import x", "low.b": "from ..errors import y", "low.c": "import os"}
MAP = "top a*\nlow b* c\nground errors* files"


def test_what_runs_on_hosts_needs_nothing_of_the_controllers() -> None:
    hosts = {"mirror": "from ..plugin_utils.errors import x", "lab.hosts": "from ..mirror import y"}
    assert Layout(GOOD, MAP, hosts).faults() == ["module_utils.mirror imports errors, which is not below it"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        pytest.param({}, "", id="as-it-should-be"),
        pytest.param({"low.d": ""}, "low.d is on no map", id="on-no-map"),
        pytest.param({"low.c": None}, "low.c is on the map only", id="gone"),
        pytest.param({"low.c": "from ..top.a import x"}, "low.c imports top.a, which is not below it", id="upwards"),
        pytest.param(
            {"low.c": "if TYPE_CHECKING:\n    from ..top.a import x"}, "low.c imports top.a, which is not below it", id="upwards-for-types"
        ),
        pytest.param(
            {"low.c": f"import {_COLLECTION}.plugin_utils.top.a as x"}, "low.c imports top.a, which is not below it", id="upwards-by-import"
        ),
        pytest.param(
            {"low.c": f"from {_COLLECTION}.plugin_utils import top"},
            "low.c imports plugin_utils, which is not below it",
            id="a-room-as-a-whole",
        ),
        pytest.param(
            {"low.c": f"importlib.import_module('{_COLLECTION}.plugin_utils.top.a')"},
            "low.c imports top.a, which is not below it",
            id="upwards-by-a-text",
        ),
        pytest.param({"low.c": "__import__(x)"}, "low.c imports something, which is not below it", id="by-a-text-that-is-made-up"),
        pytest.param({"low.c": "import_module('..top.a', x)"}, "low.c imports something, which is not below it", id="by-a-relative-text"),
        pytest.param({"low.c": "from ...action.gate import x"}, "low.c imports action.gate, which is not below it", id="a-plugin"),
        pytest.param({"errors": "from .low.c import x"}, "errors imports low.c, which is not below it", id="ground-upwards"),
        pytest.param(
            {"low.c": "def f():\n    from ansible_collections.tidegate.release.plugins.plugin_utils.top.a import x"},
            "low.c imports top.a, which is not below it",
            id="upwards-by-its-whole-name",
        ),
        pytest.param(
            {"low.c": "from .b import x", "low.b": "if TYPE_CHECKING:\n    from .c import x"},
            "low.b and low.c import each other",
            id="circle",
        ),
        pytest.param({"top.a": "from ..low import c"}, "top.a is no pure file: it needs low.c, which is none", id="needs-an-impure-one"),
        pytest.param(
            {"top.a": "from ..files import write"}, "top.a is no pure file: it needs files.write, which is none", id="by-a-helper"
        ),
        pytest.param({"top.a": "from ..files import copy_hashing"}, "", id="a-helper-that-does-nothing"),
        pytest.param(
            {"top.a": "from ...module_utils.mirror import Mirror"},
            "top.a is no pure file: it needs module_utils.mirror.Mirror, which is none",
            id="by-a-helper-of-hosts",
        ),
        pytest.param(
            {"low.b": "from urllib import request"}, "low.b is no pure file: it imports urllib.request", id="input-from-a-package"
        ),
        pytest.param({"low.b": "import os.path"}, "low.b is no pure file: it imports os.path", id="input-and-output"),
        pytest.param(
            {"low.b": "from ansible.errors import AnsibleError"}, "low.b is no pure file: it imports ansible.errors", id="ansible"
        ),
        pytest.param({"low.b": "x = datetime.now()"}, "low.b is no pure file: line 1 calls now()", id="clock"),
        pytest.param({"low.b": "x = map(Path.read_text, y)"}, "low.b is no pure file: line 1 calls read_text()", id="reads-by-a-name"),
        pytest.param({"low.b": "x = open"}, "low.b is no pure file: line 1 calls open()", id="opens"),
        pytest.param({"low.b": "x = facts.now"}, "", id="the-moment-that-is-given"),
        pytest.param({"low.b": "def f(path):\n    return path.read_text()"}, "low.b is no pure file: line 2 calls read_text()", id="reads"),
    ],
)
def test_what_is_not_as_the_map_says_is_found(change: dict[str, str | None], fault: str) -> None:
    sources = {name: source for name, source in {**GOOD, **change}.items() if source is not None}
    assert Layout(sources, MAP, {"mirror": "import socket"}).faults()[:1] == ([fault] if fault else [])


def _twice(sources: dict[str, str]) -> list[str]:
    """The classes that two files define, so that a name alone does not say which is meant."""
    places: dict[str, list[str]] = {}
    for file, source in sorted(sources.items()):
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(file)
    return [f"{name}: {' and '.join(files)}" for name, files in sorted(places.items()) if len(files) > 1]


def test_no_two_classes_have_one_name() -> None:
    paths = [
        path for path in (ROOT / "plugins").rglob("*.py") if path.parent.name not in {"action", "callback", "lookup"}
    ]  # Ansible names those
    assert _twice({str(path.relative_to(ROOT)): path.read_text() for path in paths}) == []


def test_a_class_that_is_there_twice_is_found() -> None:
    assert _twice({"a": "class X: ...", "b": "class X: ...\nclass Y: ..."}) == ["X: a and b"]


# --- what the docs say of the code -------------------------------------------------------------------------------------------------------


def test_every_file_that_runs_on_hosts_is_on_their_map() -> None:
    (told,) = re.findall(r"^```text\n(.*?)^```", (ROOT / "docs" / "host.md").read_text(), re.MULTILINE | re.DOTALL)
    named = [name for line in told.splitlines() for name in re.split(r" {2,}", line)[1].split()]
    assert sorted(named) == sorted(path.stem for path in (ROOT / "plugins" / "module_utils").glob("*.py"))


PAGES = [path for path in sorted((ROOT / "docs").rglob("*.md")) if path.parent.name not in {"schemas", "guides"}]
PAGES += [ROOT / "CONTRIBUTING.md", ROOT / "README.md", ROOT / "SECURITY.md"]
_FILE = re.compile(r"`([a-z_]+(?:/[a-z_]+)*\.py)`")


def _missing_files(text: str) -> list[str]:
    """The Python files that a page names and the collection does not have, below plugins, plugin_utils or the root."""
    places = (ROOT, ROOT / "plugins", ROOT / "plugins" / "plugin_utils")
    return sorted({name for name in _FILE.findall(text) if not any((place / name).is_file() for place in places)})


@pytest.mark.parametrize("page", [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in PAGES])
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    assert _missing_files(page.read_text()) == []


def test_a_file_that_is_not_there_is_found() -> None:
    assert _missing_files("`clearance/facts.py`, `keys.py`, `module_utils/health.py` and `policy/controls.py`") == ["policy/controls.py"]


WHERE = re.findall(r"^\| (.+?) \| `(.+?)` \| `(.+?)` \|$", (ROOT / "docs" / "where.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize(("word", "file", "name"), [pytest.param(*row, id=row[0]) for row in WHERE])
def test_what_is_where_the_docs_say(word: str, file: str, name: str) -> None:
    defined = {getattr(node, "name", "") for node in ast.parse((ROOT / file).read_text()).body}
    assert name in defined, word


def test_every_word_of_the_glossary_is_somewhere() -> None:
    glossary = re.findall(r"^\| ([^|]+?) \|", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)[2:]
    said = ", ".join(row[0] for row in WHERE)
    assert len(WHERE) >= 40
    assert [word for entry in glossary for word in entry.split(", ") if word not in said] == []


# --- the data that controls, gates and planners decide by -------------------------------------------------------------------------------

FIELDS = [
    ("clearance/control_spec.py", "ControlSpec"),
    ("clearance/facts.py", "Facts"),
    ("clearance/facts.py", "PackageFacts"),
    ("policy/model.py", "Policy"),
    ("rfc/model.py", "Rfc"),
    ("compatibility/judge.py", "Surroundings"),
    ("rollout/deployments.py", "Deployment"),
    ("rollout/deployments.py", "Target"),
    ("rollout/gate.py", "GateInputs"),
    ("rollout/options.py", "Rollout"),
]


def _without_docstring(source: str, name: str) -> list[str]:
    """The fields of a class that no docstring follows."""
    body = next(node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name)
    fields = [
        (node.target.id, after)
        for node, after in zip(body, [*body[1:], None], strict=True)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    assert fields
    return [field for field, after in fields if not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant))]


@pytest.mark.parametrize(("file", "name"), FIELDS)
def test_every_field_is_documented_by_itself(file: str, name: str) -> None:
    assert _without_docstring((ROOT / "plugins" / "plugin_utils" / file).read_text(), name) == []


def test_a_field_without_a_docstring_is_found() -> None:
    assert _without_docstring('class A:\n    """x"""\n\n    b: int\n    """y"""\n    c: int\n    d: int = 1\n    """z"""\n', "A") == ["c"]
