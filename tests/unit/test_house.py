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
from collections.abc import Iterator
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
ABOUT_NO_FILE = frozenset({"examples", "house", "install", "oldest_python", "schemas"})


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
    """The lines that assert something of the time on the wall, which says how busy the machine is."""
    asserts = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]
    return [
        node.lineno
        for node in asserts
        if any(isinstance(call, ast.Call) and ast.unparse(call.func) in {f"time.{name}" for name in _WALL} for call in ast.walk(node))
    ]


def test_no_test_asserts_how_long_something_took() -> None:
    found = {str(path.relative_to(ROOT)): _wall_clock(path.read_text()) for path in sorted((ROOT / "tests").rglob("*.py"))}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("line", "found"),
    [("assert time.monotonic() - begun < 5", [1]), ("assert time.process_time() - begun < 5", []), ("begun = time.monotonic()", [])],
)
def test_an_assertion_of_the_wall_clock_is_found(line: str, found: list[int]) -> None:
    assert _wall_clock(line) == found


# --- the map of plugin_utils: docs/architecture.md says which files there are, in which order rooms may import, and which are pure -----

# What a pure file may not import, call or touch. A path may be put together, not looked at.
_TALKS = frozenset(
    {
        *("alembic", "ansible", "ansible_runner", "apprise", "fcntl", "getpass", "glob", "http", "io", "multiprocessing", "oras", "os"),
        *(
            "requests",
            "select",
            "shutil",
            "signal",
            "socket",
            "sqlalchemy",
            "subprocess",
            "sys",
            "tarfile",
            "tempfile",
            "threading",
            "time",
        ),
        "urllib.request",
    }
)
_DOES = frozenset(
    {
        *(
            "absolute",
            "cwd",
            "exists",
            "home",
            "input",
            "is_dir",
            "is_file",
            "iterdir",
            "lstat",
            "mkdir",
            "now",
            "open",
            "print",
            "read_bytes",
        ),
        *("read_text", "rename", "resolve", "rglob", "stat", "today", "touch", "unlink", "utcnow", "write_bytes", "write_text"),
    }
)


class Layout:
    """The modules of plugin_utils, each a dotted name with its source, held against the map in ``docs/architecture.md``.

    The map has a line for each room, uppermost first: its name, or ``ground`` for the files that are in none, and its files, ``*`` behind
    those that are pure. A room within a room is written ``clearance/controls``.
    """

    def __init__(self, sources: dict[str, str], written: str) -> None:
        self.sources = sources
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
        below = ROOT / "plugins" / "plugin_utils"
        paths = [path for path in below.rglob("*.py") if "migrations" not in path.parts]
        page = (ROOT / "docs" / "architecture.md").read_text()
        written = re.search(r"```text\n(actions .*?)```", page, re.DOTALL)
        assert written, "docs/architecture.md has no map"
        return cls({".".join(path.relative_to(below).with_suffix("").parts): path.read_text() for path in paths}, written[1])

    def faults(self) -> list[str]:
        """What is not as the map says, or as no map may allow."""
        imports = {name: set(self._imports(name, ast.walk(ast.parse(source)))) for name, source in self.sources.items()}
        found = [f"{name} is on no map" for name in sorted(self.sources.keys() - self.mapped)]
        found += [f"{name} is on the map only" for name in sorted(self.mapped - self.sources.keys())]
        for name, others in sorted(imports.items()):
            for other in sorted(others):
                if self._room(name) != self._room(other) and self._height(name) <= self._height(other):
                    found.append(f"{name} imports {other}, which is not below it")
        found += [f"{' and '.join(circle)} import each other" for circle in _circles(imports)]
        for name in sorted(self.pure & self.sources.keys()):
            found += [f"{name} is no pure file: {why}" for why in self._impure(name)]
        return found

    def _room(self, name: str) -> str:
        return name.partition(".")[0] if "." in name else ""

    def _height(self, name: str) -> int:
        room = self._room(name)
        return -self.order.index(room) if room in self.order else -len(self.order)

    def _imports(self, name: str, nodes: Iterator[ast.AST]) -> Iterator[str]:
        """The modules of plugin_utils that the import statements among nodes name."""
        for node in nodes:
            if not isinstance(node, ast.ImportFrom):
                continue
            base = (node.module or "").removeprefix("ansible_collections.tidegate.release.plugins.plugin_utils").lstrip(".")
            if node.level:
                base = ".".join([*name.split(".")[: -node.level], *filter(None, [node.module])])
                if node.level > len(name.split(".")):
                    continue  # module_utils
            elif base == (node.module or ""):
                continue
            for entry in node.names:
                inner = f"{base}.{entry.name}".lstrip(".")
                yield from (module for module in (inner if inner in self.sources else base,) if module in self.sources and module != name)

    def _impure(self, name: str) -> Iterator[str]:
        """What a pure file does or needs that it must not. What only types are imported for is not needed when it runs."""
        tree = ast.parse(self.sources[name])
        typed = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
        unused = {id(inner) for node in typed for inner in ast.walk(node)}
        nodes = [node for node in ast.walk(tree) if id(node) not in unused]
        for other in sorted(self._imports(name, iter(nodes))):
            if other not in self.pure and "." in other:
                yield f"it needs {other}, which is none"
        for node in nodes:
            modules = [entry.name for entry in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for module in modules:
                if module in _TALKS or module.split(".")[0] in _TALKS:
                    yield f"it imports {module}"
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if called in _DOES:
                    yield f"line {node.lineno} calls {called}()"


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


GOOD = {"errors": "", "top.a": "from ..low.b import x", "low.b": "from ..errors import y", "low.c": "import os"}
MAP = "top a*\nlow b* c\nground errors"


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
        pytest.param({"low.b": "import os.path"}, "low.b is no pure file: it imports os.path", id="input-and-output"),
        pytest.param(
            {"low.b": "from ansible.errors import AnsibleError"}, "low.b is no pure file: it imports ansible.errors", id="ansible"
        ),
        pytest.param({"low.b": "x = datetime.now()"}, "low.b is no pure file: line 1 calls now()", id="clock"),
        pytest.param({"low.b": "def f(path):\n    return path.read_text()"}, "low.b is no pure file: line 2 calls read_text()", id="reads"),
    ],
)
def test_what_is_not_as_the_map_says_is_found(change: dict[str, str | None], fault: str) -> None:
    sources = {name: source for name, source in {**GOOD, **change}.items() if source is not None}
    assert Layout(sources, MAP).faults()[:1] == ([fault] if fault else [])


# --- what the docs say of the code -------------------------------------------------------------------------------------------------------

PAGES = [path for path in sorted((ROOT / "docs").rglob("*.md")) if path.parent.name not in {"schemas", "guides"}] + [
    ROOT / "CONTRIBUTING.md"
]
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
    glossary = re.findall(r"^\| ([^|]+?) \|", (ROOT / "README.md").read_text().split("## Words")[1].split("##")[0], re.MULTILINE)[2:]
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
