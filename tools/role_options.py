"""Writes what Ansible has no fragments for, from the documentation of the modules: the options of each role, and the action groups.

In ``roles/*/meta/argument_specs.yml`` the options are made, those of the modules that the role's tasks call; the rest is written by hand.
``roles/*/README.md``, which Galaxy shows, says the same to people. ``meta/runtime.yml`` gets a group for each option that many modules
share. A test sees that all of it is current.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.documentation import (
    FALLBACK,
    SECRET,
    documented,
    fallbacks,
    paragraphs,
)

ROOT = Path(__file__).parents[1]
RUNTIME = ROOT / "meta/runtime.yml"
GROUPS = ("dsl", "cmdb", "policy", "rfc", "key")
_MODULE = "tidegate.release."
_READ = re.compile(r"\{\{\s*(\w+)\s*(\||\}\})")  # a variable as a task hands it on
_NO_OPTIONS = ("__", "ansible_")  # at the beginning of a variable of the role's own, and of Ansible's
_REFERENCE = re.compile(r"\bO\((\w+)(=[^()]*)?\)")
_NOTE = "# The options are made from the modules' documentation by tools/role_options.py; the rest is written by hand.\n"
_RESULT = re.compile(r"\bRV\((\w+)\)")  # a module's, which a role has not
_MARK = re.compile(r"\b([OVCEIBMPU]|RV)\(([^()]*(?:\([^()]*\)[^()]*)*)\)")
_MADE = "<!-- Made from meta/argument_specs.yml by tools/role_options.py. -->\n"
_WIDTH = 140


class _Dumper(yaml.SafeDumper):
    """Writes lists indented, as the linters want them."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def specifications() -> dict[Path, str]:
    """The text of each role's file."""
    return {path: _specification(path) for path in sorted(ROOT.glob("roles/*/meta/argument_specs.yml"))}


def readmes() -> dict[Path, str]:
    """The text of each role's README.md, by what its ``argument_specs.yml`` says."""
    return {path.parents[1] / "README.md": _readme(path.parents[1].name, text) for path, text in specifications().items()}


def runtime() -> str:
    """The text of ``meta/runtime.yml``."""
    text = RUNTIME.read_text(encoding="utf-8").partition("action_groups:")[0]
    modules = sorted(path.stem for path in ROOT.glob("plugins/action/*.py"))
    groups = {name: [module for module in modules if name in documented(module)] for name in GROUPS} | {"tidegate": modules}
    return text + yaml.dump({"action_groups": groups}, Dumper=_Dumper, sort_keys=False)


def _specification(path: Path) -> str:
    role = path.parents[1]
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    defaults_file = role / "defaults/main.yml"
    defaults = yaml.safe_load(defaults_file.read_text(encoding="utf-8")) if defaults_file.exists() else {}
    for entry_point, spec in document["argument_specs"].items():
        made: dict[str, Any] = {}
        for call in _calls(role, entry_point):
            for option, variable in call.variables.items():
                if variable not in made and variable.startswith(("tidegate_", f"{role.name}_")):
                    made[variable] = _option(call, option, defaults)
        spec["options"] = made
    return f"---\n{_NOTE}" + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=_WIDTH, allow_unicode=True)


class _Call(NamedTuple):
    """A module of the collection as a task calls it; ``sometimes`` when that depends on a condition."""

    module: str
    arguments: Mapping[str, Any]
    sometimes: bool

    @property
    def variables(self) -> dict[str, str]:
        """By option, the variable that it is taken from, as far as it is a role's to document."""
        found = {option: fallback.variable for option, fallback in fallbacks(self.module).items() if option not in self.arguments}
        for option, value in self.arguments.items():
            match = _READ.match(str(value))
            if match and not match[1].startswith(_NO_OPTIONS):
                found[option] = match[1]
        return {option: found[option] for option in documented(self.module) if option in found}


def _calls(role: Path, entry_point: str, sometimes: bool = False) -> Iterator[_Call]:
    """What the tasks of a role call, and those of the roles that it includes."""
    stack = yaml.safe_load((role / f"tasks/{entry_point}.yml").read_text(encoding="utf-8"))[::-1]
    while stack:
        task = stack.pop()
        for key, value in reversed(task.items()):
            if key in ("block", "rescue", "always"):
                stack += value[::-1]
            elif key == "ansible.builtin.import_tasks":
                yield from _calls(role, value.removesuffix(".yml"), sometimes or "when" in task)
            elif key == "ansible.builtin.include_role":
                yield from _calls(role.parent / value["name"].removeprefix(_MODULE), "main", sometimes or "when" in task)
            elif key.startswith(_MODULE):
                yield _Call(key.removeprefix(_MODULE), value or {}, sometimes or "when" in task)


def _option(call: _Call, name: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A module's option as that of a role, which has its variable in its place."""
    option, variable = documented(call.module)[name], call.variables[name]
    fallback = None if name in call.arguments else fallbacks(call.module)[name]
    first, *others = paragraphs(option)
    default = defaults.get(variable, option.get("default"))
    plain = default not in (None, "", {}, []) and "{{" not in str(default)
    needed = option.get("required") and variable not in defaults and not call.sometimes
    sentences = [first]
    if fallback:
        sentences += [f"Defaults to the environment variable E({fallback.environment})."] if fallback.environment else []
        sentences += [FALLBACK.sub("", text).strip() for text in others if FALLBACK.search(text)]
        sentences += ["Has to be given."] if needed else []
    if plain and variable not in defaults:
        sentences.append(f"V({str(default).lower() if isinstance(default, bool) else default}) unless it is given.")
    made = {"description": _referring(" ".join(filter(None, sentences)), call.variables), "type": option["type"]}
    made |= {key: option[key] for key in ("elements", "choices") if key in option}
    made |= {"default": default} if plain and variable in defaults else {}
    made |= {"required": True} if needed and not fallback else {}  # else the task says in one line that it is missing
    return made | ({"no_log": True} if SECRET.search(name) else {})


def _referring(text: str, variables: Mapping[str, str]) -> str:
    """A text of a module's that names options by the variables of the role, where it has one for them."""

    def name(match: re.Match[str]) -> str:
        return f"{'O' if match[1] in variables else 'C'}({variables.get(match[1], match[1])}{match[2] or ''})"

    return _RESULT.sub(r"C(\1)", _REFERENCE.sub(name, text))


def _readme(role: str, specification: str) -> str:
    entry_points: dict[str, Any] = yaml.safe_load(specification)["argument_specs"]
    lines = [_MADE, f"# {_MODULE}{role}", ""]
    for name, spec in entry_points.items():
        lines += [f"## {name}", ""] if len(entry_points) > 1 else []
        lines += [f"{markdown(spec['short_description'])}.", ""]
        lines += [line for text in spec["description"] for line in (markdown(text), "")]
        lines += ["```yaml", "- ansible.builtin.import_role:", f"    name: {_MODULE}{role}"]
        lines += [*([] if name == "main" else [f"    tasks_from: {name}"]), "```", ""]
        options = spec["options"]
        lines += ["| variable | type | meaning |", "| --- | --- | --- |"] if options else ["It has no variables."]
        lines += [f"| `{variable}` | {kind(option)} | {meaning(option)} |" for variable, option in options.items()]
        lines += [""]
    return "\n".join(lines)


def kind(option: Mapping[str, Any]) -> str:
    """What type an option has, and whether it has to be given."""
    found = f"list of {option['elements']}" if "elements" in option else str(option["type"])
    return f"{found}, required" if option.get("required") else found


def meaning(option: Mapping[str, Any]) -> str:
    """What an option is for, its choices and its default, for a cell of a table in Markdown."""
    said = option["description"]
    texts = [markdown(text) for text in ([said] if isinstance(said, str) else said)]
    texts += [f"One of {', '.join(f'`{choice}`' for choice in option['choices'])}."] if "choices" in option else []
    default = option.get("default")
    texts += [] if default is None else [f"Default: `{str(default).lower() if isinstance(default, bool) else default}`."]
    return " ".join(texts).replace("|", "\\|")


def markdown(text: str) -> str:
    """A text with Ansible's marks as Markdown."""
    return _MARK.sub(lambda match: f"[{match[2]}]({match[2]})" if match[1] == "U" else f"`{match[2]}`", text)


if __name__ == "__main__":
    for path, text in specifications().items():
        path.write_text(text, encoding="utf-8")
    for path, text in readmes().items():
        path.write_text(text, encoding="utf-8")
    RUNTIME.write_text(runtime(), encoding="utf-8")
