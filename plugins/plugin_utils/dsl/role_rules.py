# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a release's role may be archived, or run: it has its steps, and all that it is is in it."""

from __future__ import annotations

import posixpath
import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import yaml

from ..errors import Problem
from .manifest import OwnAnsible
from .payload import FileEntry, follow, visible
from .role_documents import LIMIT, VAULT, Budget, TooMuchError, UnreadableError, line_of, pairs, read, repeated, text_of
from .role_tasks import OWN_PATH, Certainty, KnownRoles, TaskFile, is_literal

Read = Callable[[str, int], bytes]
"""Gives what a file of the role begins with: its path, and how many bytes."""

_SUFFIXES = ("yml", "yaml", "json")
_NESTED = re.compile(r"(?:roles/[^/]+/)*")
_KINDS = {
    **dict.fromkeys(("tasks", "handlers"), "tasks"),
    **dict.fromkeys(("vars", "defaults"), "variables"),
    **dict.fromkeys(("files", "templates"), "data"),
    "meta": "meta",
}
# Plugins of a role's that Ansible takes for the whole run and not for a task: one of them could write receipts, or change our variables.
_OF_THE_RUN = ("cache_plugins", "callback_plugins", "strategy_plugins", "vars_plugins")
_OF_DEVELOPERS = (".git", ".hg", ".svn")
_CERTAINTY: Mapping[str, Certainty] = {"any": "unknown", "guess": "likely", "tasks": "certain", "variables": "certain", "meta": "certain"}
_BREAK = re.compile("[\r\n\x85\u2028\u2029]")  # where a line of YAML ends, a comment for one
_LITERAL = re.compile(r"['\"]([^'\"{}]+)['\"]")
_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)


def check_role(own: OwnAnsible, entries: Collection[FileEntry], read_file: Read) -> list[Problem]:
    """Everything for which the role must not be archived nor run, in the order of its files."""
    return _Role(own, entries, read_file).problems()


@dataclass(frozen=True)
class _RoleFile:
    """A file of the role. ``kind``: ``tasks``, ``variables``, ``meta``, ``data`` for hosts, ``any`` when only its content can tell, or
    ``guess`` when that may be tasks because of where it is, or because a template may include it.

    ``unit``: the role in this role that it belongs to, with a slash at its end; empty for this role itself.
    """

    kind: str
    unit: str
    path: str


class _Role:
    def __init__(self, own: OwnAnsible, entries: Collection[FileEntry], read_file: Read) -> None:
        self._own = own
        self._tree = {entry.path: entry for entry in entries}
        self._paths = sorted(self._tree)
        self._folders: dict[str, list[str]] = {}
        for path in self._paths:
            self._folders.setdefault(path.rpartition("/")[0], []).append(path)
        self._read = read_file
        self._budget = Budget()
        self._found: list[tuple[str, int, Problem]] = []
        inner = {path.split("/")[1] for path, entry in self._tree.items() if path.startswith("roles/") and path.count("/") == 1}
        self._known = KnownRoles({own.name, *inner}, {collection["name"] for collection in own.collections})
        self._counts: dict[str, int] = {}
        self._included: list[_RoleFile] = []

    def problems(self) -> list[Problem]:
        """Look at everything, and say what is wrong."""
        self._refuse_folders()
        steps = {step: self._step(step) for step in (*self._own.steps, "back_out")}
        looked_at: set[_RoleFile] = set()
        try:
            waiting = [*self._parts(), *(_RoleFile("tasks", "", path) for path in steps.values() if path)]
            while waiting:
                part = waiting.pop()
                if part not in looked_at:
                    looked_at.add(part)
                    self._look(part)
                    waiting += self._included
                    self._included = []
        except TooMuchError as error:
            self._found.append(("", 1, Problem(visible(self._own.role), str(error), "leave out of the role what does not belong there")))
        for step, path in steps.items():
            if path and not self._counts.get(path, 1):
                self._refuse(path, 1, f"there is no task in it, so there is no {step}", "write what it does")
        return list(dict.fromkeys(problem for _path, _line, problem in sorted(self._found, key=lambda entry: entry[:2])))

    def _parts(self) -> Iterator[_RoleFile]:
        """Every file of the role by every path that it has, links followed."""
        for path, entry in self._tree.items():
            end = follow(path, self._tree) if entry.type == "link" else entry
            if end is not None and end.type == "file":
                yield self._part(path, end.path)
            elif end is not None and entry.type == "link":
                for below in self._below(end.path):
                    found = follow(below, self._tree)
                    if found is not None and found.type == "file":
                        yield self._part(path + below[len(end.path) :], found.path)

    def _below(self, folder: str) -> list[str]:
        """The paths below a directory."""
        start, end = (bisect_left(self._paths, f"{folder}{sign}") for sign in "/0")  # 0 is what comes behind /
        self._budget.spend_ways(end - start)
        return self._paths[start:end]

    def _refuse(self, path: str, line: int, what: str, remedy: str) -> None:
        self._found.append((path, line, Problem(visible(f"{self._own.role}/{path}:{line}"), what, remedy)))

    def _refuse_folders(self) -> None:
        """What has no place in a role, whatever is in it; each once."""
        refused = {}
        for path in self._paths:
            unit = _NESTED.match(path)
            start = unit.end() if unit else 0
            folder = path[start:].partition("/")[0]
            if folder in _OF_THE_RUN:
                what = "a plugin that Ansible would take for the whole run, of which a role is a part"
                refused[path[:start] + folder] = (what, "enable it where Ansible is configured, or leave it out")
            for name in _OF_DEVELOPERS:
                before, found, _rest = f"/{path}/".partition(f"/{name}/")
                if found:
                    refused[f"{before}/{name}".lstrip("/")] = ("it has what was and is in work, not what is released", f"leave {name} out")
        for path, (what, remedy) in refused.items():
            self._refuse(path, 1, what, remedy)

    def _step(self, step: str) -> str:
        """The file of a step; empty, and noted, when there is none."""
        for suffix in _SUFFIXES[:2]:
            found = follow(f"tasks/{step}.{suffix}", self._tree)
            if found is not None and found.type == "file":
                return found.path
        where = visible(f"{self._own.role}/tasks/{step}.yml")
        if step == "back_out":
            problem = Problem(where, "there is no back-out, and every role has to have one", "write there what undoes the role on a host")
        else:
            problem = Problem(where, f"it is not in the role, and release.yml lists {step}", f"write it, or leave {step} out of the steps")
        self._found.append(("", 0, problem))
        return ""

    def _part(self, path: str, content: str) -> _RoleFile:
        """What the file at ``path`` is, whose content is that of the file ``content``."""
        unit = _NESTED.match(path)
        start = unit.end() if unit else 0
        folder, _slash, rest = path[start:].partition("/")
        name = path.rpartition("/")[2]
        kind = _KINDS.get(folder, "any") if rest else "any"
        if "." in name and name.rpartition(".")[2] not in _SUFFIXES and kind != "data":
            kind = "any"
        elif kind == "tasks" and "." not in name:
            kind = "guess"
        return _RoleFile(kind, path[:start], content)

    def _look(self, part: _RoleFile) -> None:
        if part.kind == "data":
            return  # unless a task includes it
        content = self._read(part.path, LIMIT + 1)
        if part.kind in ("any", "guess") and not content.startswith(VAULT) and (len(content) > LIMIT or not _is_list(content)):
            return
        if content.startswith(VAULT):
            if part.kind in ("tasks", "meta", "guess"):
                self._refuse(part.path, 1, "it is encrypted, so nobody can look into it", "keep what has to be secret in vars/")
            return
        remedy = "correct it, or leave it out of the role"
        try:
            self._document(part, read(content, self._budget))
        except TooMuchError:
            raise
        except UnreadableError as error:
            if part.kind not in ("any", "guess"):
                self._refuse(part.path, error.line, str(error), remedy)
        except RecursionError:
            self._refuse(part.path, 1, "it is nested too deeply", remedy)

    def _document(self, part: _RoleFile, node: yaml.Node | None) -> None:
        if part.kind not in ("any", "guess") and node is not None:
            for key, line in repeated(node, self._budget):
                self._refuse(part.path, line, f"{key!a:.80} is given twice", "keep one of them")

        def refuse(at: yaml.Node, what: str, remedy: str) -> None:
            self._refuse(part.path, line_of(at), what, remedy)

        inside = partial(self._inside, part)
        tasks = TaskFile(refuse, inside, self._budget, self._known, _CERTAINTY[part.kind])
        if part.kind == "variables":
            tasks.variables(node)
        elif part.kind == "meta":
            self._metadata(node, tasks)
        else:
            tasks.check(node)
            self._counts[part.path] = tasks.count
            for text in dict.fromkeys(tasks.task_files):
                sure = "tasks" if is_literal(text) else "guess"
                self._included += [_RoleFile(sure, part.unit, path) for path in self._named(part, text, "tasks")]
            for text in dict.fromkeys(tasks.variable_files):
                self._included += [_RoleFile("variables", part.unit, path) for path in self._named(part, text, "vars")]

    def _metadata(self, node: yaml.Node | None, tasks: TaskFile) -> None:
        """The roles that a role's meta/main.yml makes it depend on."""
        for key, _node, value in pairs(node, self._budget) if isinstance(node, yaml.MappingNode) else ():
            if key == "dependencies":
                for item in value.value if isinstance(value, yaml.SequenceNode) else []:
                    self._dependency(item, tasks)

    def _dependency(self, item: yaml.Node, tasks: TaskFile) -> None:
        name = text_of(item)
        if isinstance(item, yaml.MappingNode):
            parts = {key: value for key, _node, value in pairs(item, self._budget)}
            name = next((text for key in ("role", "name", "src") if (text := text_of(parts.get(key)))), None)
            tasks.variables(item)  # what is no keyword is a variable of that role
            tasks.variables(parts.get("vars"))
        tasks.role(name or "", item)

    def _places(self, part: _RoleFile, text: str, folder: str) -> tuple[list[str], str]:
        """Where in the role a path in a task file may begin, and the rest of it."""
        if found := OWN_PATH.match(text):
            return [part.unit], text[found.end() :]
        here = part.path.rpartition("/")[0]
        handlers = [f"{part.unit}handlers/"] if folder == "tasks" else []
        return [f"{part.unit}{folder}/", *handlers, f"{here}/" if here else "", part.unit], text

    def _named(self, part: _RoleFile, text: str, folder: str) -> Iterator[str]:
        """The files of the role that what a task includes may be: as it is written, as a text in its template, or with any for that."""
        places, rest = self._places(part, text, folder)
        names = [rest] if "{" not in rest else _LITERAL.findall(rest)
        for name, place in product(names, places):
            yield from self._files(place + name, folder == "vars")
        first, *others = _TEMPLATE.split(rest)
        if others and any(word.strip(" ./") for word in (first, *others)):
            for place in places:
                start = posixpath.normpath(f"{place}{first}|").removesuffix("|")  # which stands for what comes behind
                paths = self._paths if "/" in "".join(others) else self._folders.get(start.rpartition("/")[0], [])
                self._budget.spend_ways(len(paths))
                pattern = _pattern(start, others)
                yield from (path for path in paths if pattern.fullmatch(path))

    def _inside(self, part: _RoleFile, text: str, folder: str) -> bool:
        """Whether the role that the task file belongs to has what a path may lead to; without .. that may be in the role around it too."""
        places, rest = self._places(part, text, folder)
        if not is_literal(text):
            return any(path.startswith(part.unit) for path in self._named(part, text, folder))
        here = part.path.rpartition("/")[0]
        ends = [follow(place + rest, self._tree) for place in (*places, f"{here}/{folder}/")]
        around = [] if ".." in rest else [follow(place + rest, self._tree) for place in (f"{folder}/", "")]
        return not rest or any(around) or any(end is not None and end.path.startswith(part.unit) for end in ends)

    def _files(self, path: str, below: bool) -> Iterator[str]:
        """The file at a path, links followed; ``below``: or those of YAML in the directory there."""
        found = follow(path, self._tree)
        if found is not None and found.type == "file":
            yield found.path
        elif found is not None and below:
            names = (path for path in self._below(found.path) if self._tree[path].type == "file")
            yield from (path for path in names if path.rpartition(".")[2] in _SUFFIXES)


def _pattern(first: str, others: Sequence[str]) -> re.Pattern[str]:
    """Of paths that begin with the ``first`` text and go on with the others, in order; it is never tried again from where it once fit."""
    *inner, last = map(re.escape, others)
    return re.compile(re.escape(first) + "".join(f"(?>[^/]*?{text})" for text in inner) + f"[^/]*{last}")


def _is_list(content: bytes) -> bool:
    """Whether it begins as a list of YAML does, behind comments, marks of documents, tags and anchors; tasks are in nothing else."""
    for line in _BREAK.split(content.decode("utf-8-sig", "replace")):
        words = line.strip().removeprefix("---").split()
        first = next((word for word in words if not word.startswith(("!", "&"))), "#")
        if not first.startswith(("#", "%")):
            return first.startswith(("-", "["))
    return False
