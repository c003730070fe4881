# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a role's task files must not say, however they spell it: what reaches beyond its hosts, its directory and its own variables.

This looks at what is written. What a template turns into, and what a module or plugin that the role brings does, is seen when it runs.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import yaml

from .role_documents import NULL, Budget, pairs, text_of, texts_of

with contextlib.suppress(ImportError):
    from ansible.errors import AnsibleError
    from ansible.parsing.splitter import parse_kv, split_args

OURS = "tidegate_"
"""How the variables begin that the run gives a role."""

_BLOCKS = ("block", "rescue", "always")
_META = ("flush_handlers", "noop", "reset_connection", "clear_facts")
_INVENTORY = ("add_host", "group_by")
_ROLES = ("include_role", "import_role")
_FILES = ("include_tasks", "import_tasks", "include")
# Which argument of a module is a path on the controller, and where in a role that begins.
_PATHS: Mapping[str, tuple[tuple[str, ...], str]] = {
    **dict.fromkeys(_FILES, (("_raw_params", "file"), "tasks")),
    **dict.fromkeys(_ROLES, (("tasks_from", "vars_from", "defaults_from", "handlers_from"), "")),
    "include_vars": (("_raw_params", "file", "dir"), "vars"),
    "script": (("_raw_params", "cmd"), "files"),
    **dict.fromkeys(("template", "win_template"), (("src",), "templates")),
    **dict.fromkeys(("copy", "win_copy", "unarchive", "assemble", "patch", "synchronize"), (("src",), "files")),
}
CLIMBS = "climbs with .. to where the role has nothing"
"""Why a path is none in its role that may be one after all, if there is such a file."""

_PATH = 4096  # characters
_TRUE = ("true", "yes", "on", "1", "y", "t")
_FALSE = ("false", "no", "off", "0", "n", "f")
OWN_PATH = re.compile(r"\s*\{\{-?\s*role_path\s*-?\}\}/*")
_CLIMBS = re.compile(r"(?:^|[/\\'\"\s}])\.\.(?:[/\\'\"\s{]|$)")
_ABSOLUTE = re.compile(r"\s*(?:\{\{-?\s*)?['\"]?(?:[/~]|[A-Za-z]:[\\/])")
_OTHER_PLACES = re.compile(r"\b(playbook_dir|inventory_dir|inventory_file|ansible_config_file|role_path\s*\|\s*dirname)\b")
_IN_COLLECTION = re.compile(r"(\w+\.\w+)(?:\.\w+)+")
_FIRST_WORD = re.compile(r"\s*((?:\{\{.*?\}\}|\S)+)", re.DOTALL)
_ITEM = r"\{\{-?\s*NAME\b(?:\.(\w+)|\[['\"](\w+)['\"]\])?"


@dataclass
class Action:
    """What one task does: the ``name`` as it is written, and its arguments with their nodes, ``_raw_params`` for what has no name."""

    name: str
    node: yaml.Node
    arguments: list[tuple[str, yaml.Node]] = field(default_factory=list)

    @property
    def short(self) -> str:
        """The name without the collection that it is from."""
        return _short(self.name)

    def texts(self, *names: str) -> Iterator[tuple[str, yaml.Node]]:
        """The plain values of arguments."""
        for name, node in self.arguments:
            if name in names and (text := text_of(node)) is not None:
                yield text, node


Refuse = Callable[[yaml.Node, str, str], None]
"""Notes what is wrong at a node, and the remedy."""

Certainty = Literal["unknown", "likely", "certain"]

Inside = Callable[[str, str], bool]
"""Whether the role has what a path leads to, or may, from its task file or from that folder of the role."""


@dataclass(frozen=True)
class KnownRoles:
    """The names of the ``roles`` that a role may include, and of the ``collections`` whose roles it may."""

    roles: Collection[str]
    collections: Collection[str]


class TaskFile:
    """Looks at one file of tasks or handlers.

    ``certainty``: how sure it is that it is one. Of an ``unknown`` file only what no other list would say is refused, and of a ``certain``
    one also what can't be a task. Afterwards ``task_files`` and ``variable_files`` are the
    paths that it includes, as written, and ``count`` is how many tasks and blocks it has.
    """

    def __init__(self, refuse: Refuse, inside: Inside, budget: Budget, known: KnownRoles, certainty: Certainty) -> None:
        self._refuse = refuse
        self._inside = inside
        self._budget = budget
        self._known = known
        self._certainty = certainty
        self.task_files: list[str] = []
        self.variable_files: list[str] = []
        self.count = 0

    def check(self, node: yaml.Node | None) -> None:
        """Note everything that is wrong with a list of tasks; raises :class:`UnreadableError` when there is too much of it."""
        if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == NULL):
            return
        if not isinstance(node, yaml.SequenceNode):
            self._odd(node, "this is no list of tasks", "write each task as an entry that begins with -")
            return
        for item in node.value:
            self._budget.spend(item)
            if isinstance(item, yaml.MappingNode):
                self._task(item)
            else:
                self._odd(item, "this is no task", "write a task as keys and values")

    def _odd(self, node: yaml.Node, what: str, remedy: str) -> None:
        if self._certainty == "certain":
            self._refuse(node, what, remedy)

    def _unfit(self, node: yaml.Node, what: str, remedy: str) -> None:
        if self._certainty != "unknown":
            self._refuse(node, what, remedy)

    def _task(self, node: yaml.MappingNode) -> None:
        entries = list(pairs(node, self._budget))
        keys = {key for key, _node, _value in entries}
        if self._certainty != "certain" and "hosts" in keys:
            return  # a play, of a test for one
        self.count += 1
        self._around(entries)
        if not keys.isdisjoint(_BLOCKS):
            return
        given = [value for key, _node, value in entries if key == "args"]
        for action in self._actions(entries):
            action.arguments += [entry for value in given for entry in self._arguments(value, action.name)]
            self._action(action, entries)

    def _around(self, entries: list[tuple[str, yaml.Node, yaml.Node]]) -> None:
        """What a task or a block says around its action: variables, defaults of modules, and the tasks of a block."""
        for key, _node, value in entries:
            if key in _BLOCKS:
                self.check(value)
            elif key == "vars":
                self.variables(value)
            elif key == "register":
                self._name(value)
            elif key == "loop_control" and isinstance(value, yaml.MappingNode):
                for control, _control_node, name in pairs(value, self._budget):
                    if control in ("loop_var", "index_var"):
                        self._name(name)
            elif key == "module_defaults":
                self._defaults(value)

    def _defaults(self, node: yaml.Node) -> None:
        """Defaults of a module are arguments of a task that does not say so."""
        for part in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if isinstance(part, yaml.MappingNode):
                for name, key, value in pairs(part, self._budget):
                    action = Action(name, key, list(self._arguments(value, name)))
                    self._variables_of(action)
                    self._paths(action, [])

    def variables(self, node: yaml.Node | None) -> None:
        """Note the variables of a mapping that are named as ours are."""
        for part in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if isinstance(part, yaml.MappingNode):
                for name, key, _value in pairs(part, self._budget):
                    self._ours(name, key)

    def _name(self, node: yaml.Node) -> None:
        self._ours(text_of(node) or "", node)

    def _ours(self, name: str, node: yaml.Node) -> None:
        if name.strip().startswith(OURS) or ("{" in name and OURS in name):
            what = f"{name.strip()!a:.80} is named as what Tidegate gives the role"
            self._unfit(node, what, f"give it a name that does not begin with {OURS}")

    def _actions(self, entries: list[tuple[str, yaml.Node, yaml.Node]]) -> Iterator[Action]:
        """Every key of a task that may be its action; those that are not have names that nobody asks for."""
        for key, node, value in entries:
            if key not in ("action", "local_action"):
                yield Action(key, node, list(self._arguments(value, key)))
                continue
            if isinstance(value, yaml.MappingNode):
                action = self._of_mapping(value)
            else:
                name, rest = self._split(text_of(value) or "", value)
                action = Action(name, value, list(self._of_text(rest, value, name)))
            if "{" in action.name:
                self._refuse(action.node, "nobody can know which action that is", "write the name of the module out")
            yield action

    def _of_mapping(self, node: yaml.MappingNode) -> Action:
        """An action as ``module`` with its arguments beside it, or in ``args``."""
        action = Action("", node)
        for key, _node, value in pairs(node, self._budget):
            if key == "module":
                action.name, rest = self._split(text_of(value) or "", value)
                action.arguments += self._of_text(rest, value, action.name)
            elif key == "args":
                action.arguments += self._arguments(value, action.name)
            else:
                action.arguments.append((key, value))
        return action

    def _arguments(self, node: yaml.Node, name: str) -> Iterator[tuple[str, yaml.Node]]:
        """The arguments of the action ``name``, however they are written."""
        if isinstance(node, yaml.MappingNode):
            for key, _node, value in pairs(node, self._budget):
                yield key, value
        elif (text := text_of(node)) is not None:
            yield from self._of_text(text, node, name)

    def _of_text(self, text: str, node: yaml.Node, name: str) -> Iterator[tuple[str, yaml.Node]]:
        """Arguments that are written as ``key=value``, as Ansible takes them apart."""
        try:
            given = parse_kv(text, check_raw=_short(name) == "script")
        except (AnsibleError, ValueError):  # quotes that are not closed, a wrong escape: with those no task runs
            given = {"_raw_params": text}
        for key, value in given.items():
            yield str(key), yaml.ScalarNode(node.tag, str(value), node.start_mark, node.end_mark)

    def _split(self, text: str, node: yaml.Node) -> tuple[str, str]:
        """The name of an action and the rest."""
        try:
            name, *rest = split_args(text) or [""]
        except AnsibleError:
            self._odd(node, "the action can't be taken apart, its quotes or braces are not closed", "close them")
            return "", ""
        return name.strip(), " ".join(rest)

    def _action(self, action: Action, entries: list[tuple[str, yaml.Node, yaml.Node]]) -> None:
        if action.short in _INVENTORY:
            what = f"{action.short} changes the inventory, and a wave goes to the hosts that were planned"
            self._refuse(action.node, what, "use when, or variables of the inventory")
        elif action.short == "meta":
            self._meta(action)
        elif action.short in _ROLES:
            self._role(action)
        self._variables_of(action)
        self._paths(action, entries)
        for key, value in action.arguments:
            if key == "apply" and isinstance(value, yaml.MappingNode):
                self._around(list(pairs(value, self._budget)))

    def _meta(self, action: Action) -> None:
        said = [text.strip() for text, _node in action.texts("_raw_params", "free_form")] or [""]
        odd = next((text for text in said if text not in _META), None)
        if odd is not None:
            known = re.fullmatch(r"\w+", odd)
            what = f"meta: {odd:.60} reaches beyond this role's tasks" if known else "nobody can know what that meta does"
            self._refuse(action.node, what, f"what does no harm is {', '.join(_META)}; leave tasks out with when")

    def _role(self, action: Action) -> None:
        for name, node in action.texts("name", "role"):
            self.role(name, node)

    def role(self, name: str, node: yaml.Node) -> None:
        """Note a role that is not part of this one."""
        if "{" in name:
            self._unfit(node, "nobody can know which role that is", "write its name out")
        elif name not in self._known.roles:
            found = _IN_COLLECTION.fullmatch(name)
            if not found or found[1] not in self._known.collections:
                remedy = f"list {found[1]} under collections in release.yml" if found else "put it below roles/ in the role"
                self._unfit(node, f"the role {name!a:.80} is not in the release", remedy)

    def _variables_of(self, action: Action) -> None:
        if action.short == "set_fact":
            for name, node in action.arguments:
                self._ours(name, node)
        if action.short == "include_vars":
            for name, node in action.texts("name"):
                self._ours(name, node)

    def _paths(self, action: Action, entries: list[tuple[str, yaml.Node, yaml.Node]]) -> None:
        names, folder = _PATHS.get(action.short, ((), ""))
        if not names or self._on_host(action, entries):
            return
        for text, node in action.texts(*names):
            word = _FIRST_WORD.match(text[:_PATH]) if action.short == "script" else None
            path = word[1] if word else text
            for place, at in [(path, node), *self._items(path[:_PATH], entries)]:
                if len(place) > _PATH:
                    self._unfit(at, f"{place[:40]!a}... is longer than any path", "shorten it")
                    continue
                why = leads_out(place)
                # Of the items of a loop, as of with_first_found, not all have to be there.
                sought = folder and (why is CLIMBS or (not why and at is node and is_literal(place)))
                if sought:
                    why = "" if self._inside(place, folder) else why or "is not in the role, and Ansible would look for it elsewhere"
                if why:
                    self._unfit(at, f"{place!a:.80} {why}", "put the file into the role, and write its path from there")
                elif action.short in _FILES:
                    self.task_files.append(place)
                elif action.short == "include_vars":
                    self.variable_files.append(place)

    def _on_host(self, action: Action, entries: list[tuple[str, yaml.Node, yaml.Node]]) -> bool:
        """Whether the path of an action is one on a host, or a URL, or nobody knows."""
        remote = [text.lower() for text, _node in action.texts("remote_src")]
        if action.short == "assemble":
            return not any(text in _FALSE for text in remote)
        if action.short == "synchronize":
            pulled = any(text == "pull" for text, _node in action.texts("mode"))
            return pulled or any(key == "delegate_to" for key, _node, _value in entries)
        if any(text in _TRUE or "{" in text for text in remote):
            return True
        if action.short == "unarchive":
            return any("://" in text for text, _node in action.texts("src")) or any(
                text.lower() in _FALSE for text, _node in action.texts("copy")
            )
        return False

    def _items(self, path: str, entries: list[tuple[str, yaml.Node, yaml.Node]]) -> Iterator[tuple[str, yaml.Node]]:
        """What a loop gives for a path that is its item, or begins with a part of it."""
        name = "item"
        for key, _node, value in entries:
            if key == "loop_control" and isinstance(value, yaml.MappingNode):
                name = next((text_of(named) or name for control, _key, named in pairs(value, self._budget) if control == "loop_var"), name)
        used = re.match(rf"\s*\{{\{{-?\s*{re.escape(name)}\b(?:\.(\w+)|\[['\"](\w+)['\"]\])?", path)
        if used is None:
            return
        part = used[1] or used[2]
        for key, _node, value in entries:
            if key == "loop" or key.startswith("with_"):
                yield from self._parts(value, part) if part else texts_of(value, self._budget)

    def _parts(self, node: yaml.Node, part: str) -> Iterator[tuple[str, yaml.Node]]:
        """One part of each item of a loop."""
        for item in node.value if isinstance(node, yaml.SequenceNode) else []:
            if isinstance(item, yaml.MappingNode):
                for key, _node, value in pairs(item, self._budget):
                    if key == part and (text := text_of(value)) is not None:
                        yield text, value


def is_literal(path: str) -> bool:
    """Whether a path is just one, whatever the variables are; where the role is, is known."""
    return "{" not in OWN_PATH.sub("", path)


def leads_out(path: str) -> str:
    """Why a path that a task names is none in its role; empty as far as that can be known."""
    inner = OWN_PATH.match(path)
    rest = path[inner.end() :] if inner else path
    if _CLIMBS.search(rest):
        return CLIMBS
    if place := _OTHER_PLACES.search(rest):
        return f"begins at {place[1]}, which is not in the role"
    if inner is None and _ABSOLUTE.match(rest):
        return "is a path of the controller, which is not in the role"
    return ""


def _short(name: str) -> str:
    """The name of an action without the collection that it is from."""
    return name.strip().rpartition(".")[2]
