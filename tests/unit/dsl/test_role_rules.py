# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a role must not say is found however it is written, and what roles usually say is left alone."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl import role_documents
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.manifest import OwnAnsible
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.payload import FileEntry
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.role_rules import check_role
from ansible_collections.tidegate.release.plugins.plugin_utils.limits import run_limited
from hypothesis import given, settings
from hypothesis import strategies as st

NOTHING = "- ansible.builtin.debug:\n"
OWN = OwnAnsible("ansible/app", ("drain", "activate", "check", "restore"), collections=({"name": "community.general"},))
STEPS = {f"tasks/{step}.yml": NOTHING for step in (*OWN.steps, "back_out")}


def problems(files: Mapping[str, str | bytes | None], own: OwnAnsible = OWN, links: Mapping[str, str] | None = None) -> list[str]:
    """What is wrong with a role that has these files beside its steps; ``None`` takes one away."""
    contents = {path: content for path, content in {**STEPS, **files}.items() if content is not None}
    folders = {path.rsplit("/", depth)[0] for path in (*contents, *(links or {})) for depth in range(1, path.count("/") + 1)}
    entries = [FileEntry(path, "directory", mode=0o755) for path in folders]
    entries += [FileEntry(path, "file", mode=0o644) for path in contents]
    entries += [FileEntry(path, "link", target=target) for path, target in (links or {}).items()]

    def read(path: str, size: int) -> bytes:
        content = contents[path]
        assert content is not None
        return (content if isinstance(content, bytes) else content.encode())[:size]

    return [str(problem) for problem in check_role(own, sorted(entries, key=lambda entry: entry.path), read)]


def test_a_role_with_its_steps_is_good() -> None:
    assert problems({}) == []
    assert problems({"tasks/check.yml": None, "tasks/check.yaml": NOTHING}) == []


@pytest.mark.parametrize("content", [None, "", "---\n", "[]", "---\n# later\n"])
@pytest.mark.parametrize("step", ["back_out", "check"])
def test_a_step_has_tasks(step: str, content: str | None) -> None:
    (problem,) = problems({f"tasks/{step}.yml": content})
    assert problem.startswith(f"ansible/app/tasks/{step}.yml")
    assert ("there is no" in problem or "is not in the role" in problem) == (step in problem)


def test_a_role_without_a_back_out_is_refused() -> None:
    assert problems({"tasks/back_out.yml": None}) == [
        "ansible/app/tasks/back_out.yml: there is no back-out, and every role has to have one; write there what undoes the role on a host"
    ]


FORBIDDEN = {
    "end_play": "- meta: end_play",
    "end_batch": "- meta: end_batch",
    "end_host": "- meta: end_host",
    "end_role": "- meta: end_role",
    "clear_host_errors": "- meta: clear_host_errors",
    "refresh_inventory": "- meta: refresh_inventory",
    "what a later Ansible may have": "- meta: end_world",
    "add_host": "- add_host: {name: x}",
    "group_by": "- group_by: key=x",
    "fqcn": "- ansible.builtin.meta: end_play",
    "legacy": "- ansible.legacy.add_host: name=x",
    "action as text": "- action: meta end_play",
    "action with a continued line": "- action: '\\ meta end_play'",
    "action as a mapping": "- action: {module: meta, _raw_params: end_play}",
    "action as a mapping with arguments in its name": "- action: {module: meta end_play}",
    "action with args in it": "- action: {module: meta, args: end_play}",
    "action with args in it as a mapping": "- action: {module: meta, args: {_raw_params: end_play}}",
    "local_action": "- local_action: ansible.builtin.group_by key=x",
    "local_action as a mapping": "- local_action: {module: add_host, name: x}",
    "args": "- meta:\n  args: {_raw_params: end_play}",
    "args beside what is harmless": "- meta: flush_handlers\n  args: {_raw_params: end_play}",
    "raw": "- meta: {_raw_params: end_play}",
    "key=value": "- meta: end_play x=1",
    "nothing": "- meta:",
    "templated meta": "- meta: '{{ what }}'",
    "templated in part": "- meta: end_{{ what }}",
    "templated action": "- action: '{{ what }}'",
    "templated action with arguments": "- action: '{{ what }} end_play'",
    "templated module": "- action: {module: '{{ what }}'}",
    "encrypted meta": "- meta: !vault |\n    $ANSIBLE_VAULT;1.1;AES256\n    66",
    "encrypted action": "- action: !vault |\n    $ANSIBLE_VAULT;1.1;AES256\n    66",
    "unsafe": "- meta: !unsafe end_play",
    "escaped": '- "m\\x65ta": "end\\u005fplay"',
    "merged": "- name: x\n  vars: &x {meta: end_play}\n- <<: *x",
    "merged of many": "- name: x\n  vars: {a: &a {x: 1}, b: &b {meta: end_play}}\n- <<: [*a, *b]",
    "alias": "- vars: {x: &x {meta: end_play}}\n  debug:\n- *x",
    "given twice": "- meta: end_play\n  meta: flush_handlers",
    "in a block": "- block:\n    - block:\n        - meta: end_play",
    "in rescue": "- block: []\n  rescue:\n    - meta: end_play",
    "in always": "- block: []\n  always:\n    - meta: end_play",
    "in what an include applies": "- include_tasks: {file: check.yml, apply: {always: [{meta: end_play}]}}",
    "in JSON with tabs": '[\n\t{"meta": "end_play"}\n]',
    "in JSON with a long key": '[{"vars": {"' + "x" * 2000 + '": 1}, "meta": "end_play"}]',
    "behind a comment's end": "# x\u2028- meta: end_play\n",
    "behind a mark": "%YAML 1.1\n# x\n--- !!seq\n- meta: end_play",
}


PLACES = ["tasks/x.yml", "tasks/a/b.yaml", "tasks/x.json", "tasks/x", "handlers/main.yml", "roles/x/tasks/main.yml"]
PLACES += ["roles/x/roles/y/handlers/z", "other/x.txt", "x"]


@pytest.mark.parametrize("tasks", FORBIDDEN.values(), ids=FORBIDDEN)
@pytest.mark.parametrize("path", PLACES)
def test_what_reaches_beyond_the_role_is_refused(tasks: str, path: str) -> None:
    found = problems({path: tasks})
    assert found
    assert all(problem.startswith(f"ansible/app/{path}:") for problem in found)
    assert any("meta" in problem or "inventory" in problem or "which action" in problem for problem in found)


def test_a_problem_names_its_line() -> None:
    (problem,) = problems({"tasks/check.yml": "---\n# x\n- debug:\n\n- name: stop\n  meta: end_play\n"})
    assert problem.startswith("ansible/app/tasks/check.yml:6: meta: end_play reaches beyond this role's tasks; ")


def test_everything_is_said_at_once() -> None:
    found = problems(
        {"tasks/check.yml": "- meta: end_play\n- add_host: name=x\n", "vars/main.yml": "tidegate_x: 1", "tasks/back_out.yml": None}
    )
    assert len(found) == 4


def test_tasks_that_other_files_hold_are_looked_at() -> None:
    bad = "- meta: end_play\n"
    for where, text in {
        "files/x.yml": "files/x.yml",
        "templates/x": "{{ role_path }}/templates/x",
        "files/y.yml": "{{ 'files/y.yml' if x else 'check.yml' }}",
        "files/os-x.yml": "files/os-{{ x }}.yml",
        "files/z": "{{ item }}",
    }.items():
        assert problems({where: bad}) == []  # on hosts it is a file like any other
        loop = "  loop: [files/z]\n"
        (problem,) = problems({where: bad, "tasks/check.yml": f'- include_tasks: "{text}"\n{loop}'})
        assert problem.startswith(f"ansible/app/{where}:1: meta: end_play")


def test_links_are_followed() -> None:
    bad = "- meta: end_play\n"
    (problem,) = problems({"files/x.yml": bad, "tasks/check.yml": None}, links={"tasks/check.yml": "../files/x.yml"})
    assert problem.startswith("ansible/app/files/x.yml:1: meta")
    (problem,) = problems({"files/x/y.yml": bad}, links={"tasks/more": "../files/x"})
    assert problem.startswith("ansible/app/files/x/y.yml:1: meta")


PATHS = {
    "absolute": "- copy: {src: /etc/passwd, dest: /x}",
    "home": "- copy: src=~/x dest=/x",
    "climbs": "- template: {src: ../x, dest: /x}",
    "climbs behind the role": "- template: {src: '{{ role_path }}/../x', dest: /x}",
    "climbs in a template": "- template: {src: \"{{ '../x' }}\", dest: /x}",
    "absolute in a template": "- template: {src: \"{{ '/etc/' ~ x }}\", dest: /x}",
    "include_tasks": "- include_tasks: ../x.yml",
    "include_tasks as a mapping": "- include_tasks: {file: /x.yml}",
    "import_tasks": "- ansible.builtin.import_tasks: file=../../x.yml",
    "include_vars": "- include_vars: /etc/x.yml",
    "include_vars of a directory": "- include_vars: {dir: ../x}",
    "tasks_from": "- include_role: {name: app, tasks_from: ../../x.yml}",
    "script": "- script: /bin/x --y",
    "script as key=value": "- script: a=b/../x",
    "script in a mapping": "- script: {cmd: '../x y'}",
    "unarchive": "- unarchive: {src: /x.tgz, dest: /x}",
    "assemble": "- assemble: {src: /x, dest: /x, remote_src: false}",
    "synchronize": "- ansible.posix.synchronize: {src: /x, dest: /x}",
    "from action": "- action: copy src=/x dest=/x",
    "from args": "- copy:\n  args: {src: /x, dest: /x}",
    "from defaults": "- module_defaults: {copy: {src: /x}}\n  copy: {dest: /x}",
    "of a block": "- block: []\n  module_defaults: [{ansible.builtin.copy: {src: /x}}]",
    "playbook_dir": "- include_vars: '{{ playbook_dir }}/x.yml'",
    "inventory_dir": "- copy: {src: '{{ inventory_dir }}/x', dest: /x}",
    "beside the role": "- copy: {src: '{{ role_path | dirname }}/x', dest: /x}",
    "an item": "- copy: {src: '{{ item }}', dest: /x}\n  with_items: [a, /b]",
    "an item by another name": "- copy: {src: '{{ it }}', dest: /x}\n  loop: [/b]\n  loop_control: {loop_var: it}",
    "a part of an item": "- copy: {src: '{{ item.from }}', dest: /x}\n  loop: [{from: ../b, to: c}]",
    "nowhere": "- include_tasks: nothere.yml",
    "nowhere of variables": "- include_vars: nothere.yml",
    "nowhere of templates": "- template: {src: nothere.j2, dest: /x}",
    "nowhere of files": "- copy: {src: '{{ role_path }}/files/nothere', dest: /x}",
    "nowhere of scripts": "- script: nothere.sh --x",
    "globs": "- copy: {src: '{{ item }}', dest: /x}\n  with_fileglob: /etc/*",
    "first found": "- include_vars: '{{ item }}'\n  with_first_found: [{files: [x.yml], paths: [/etc]}]",
}  # fmt: skip


CLIMBING = [
    ("tasks/main.yml", "- include_vars: ../vars/Debian.yml"),
    ("tasks/main.yml", "- include_vars: ../vars/{{ ansible_os_family }}.yml"),
    ("tasks/more/x.yml", "- include_tasks: ../check.yml"),
    ("tasks/more/x.yml", "- import_tasks: '{{ role_path }}/tasks/more/../check.yml'"),
    ("tasks/more/x.yml", "- include_tasks: {file: '../more/{{ x }}.yml'}"),
    ("tasks/main.yml", "- template: {src: ../files/x.j2, dest: /x}"),
    ("roles/inner/tasks/main.yml", "- copy: {src: ../files/y, dest: /x}"),
]


@pytest.mark.parametrize(("path", "tasks"), CLIMBING)
def test_paths_that_climb_and_stay_in_the_role_are_good(path: str, tasks: str) -> None:
    there = {"vars/Debian.yml": "a: 1", "files/x.j2": "x", "roles/inner/files/y": "y"}
    assert problems({**there, path: tasks}) == []
    (problem,) = problems({**there, path: tasks.replace("../", "../../")})
    assert "climbs with .." in problem
    assert problem.startswith(f"ansible/app/{path}:1")


@pytest.mark.parametrize("name", ["x", "{{ x }}.conf"])
def test_a_role_in_the_role_has_nothing_of_the_other(name: str) -> None:
    tasks = f"- copy: {{src: '../../../files/{name}', dest: /x}}"
    (problem,) = problems({"files/x": "", "files/x.conf": "", "roles/inner/tasks/main.yml": tasks})
    assert "climbs with .." in problem


@pytest.mark.parametrize("tasks", PATHS.values(), ids=PATHS)
def test_paths_that_lead_out_of_the_role_are_refused(tasks: str) -> None:
    (problem,) = problems({"tasks/main.yml": tasks})
    assert problem.startswith("ansible/app/tasks/main.yml:")
    assert problem.endswith("; put the file into the role, and write its path from there")


NAMES = {
    "vars": "- debug:\n  vars: {tidegate_x: 1}",
    "vars of a block": "- block: []\n  vars: {tidegate_x: 1}",
    "a list of vars": "- debug:\n  vars: [{tidegate_x: 1}]",
    "vars that an include applies": "- include_tasks: {file: check.yml, apply: {vars: {tidegate_x: 1}}}",
    "set_fact": "- set_fact: {tidegate_x: 1}",
    "set_fact as key=value": "- ansible.builtin.set_fact: a=1 tidegate_x=1",
    "set_fact with escapes": "- set_fact: '\\x74idegate_x=1'",
    "set_fact in args": "- set_fact:\n  args: {tidegate_x: 1}",
    "set_fact in an action": "- action: set_fact tidegate_x=1",
    "set_fact with a template": "- set_fact: {'{{ \"tidegate_x\" }}': 1}",
    "set_fact by default": "- set_fact: {a: 1}\n  module_defaults: {set_fact: {tidegate_x: 1}}",
    "register": "- debug:\n  register: tidegate_x",
    "loop_var": "- debug:\n  loop: []\n  loop_control: {loop_var: tidegate_x}",
    "index_var": "- debug:\n  loop: []\n  loop_control: {index_var: tidegate_x}",
    "include_vars": "- include_vars: {file: main.yml, name: tidegate_x}",
    "merged": "- debug:\n  vars: {x: &x {tidegate_x: 1}}\n- debug:\n  vars: {<<: *x}",
}


@pytest.mark.parametrize("tasks", NAMES.values(), ids=NAMES)
def test_variables_that_are_named_as_ours_are_refused(tasks: str) -> None:
    (problem,) = problems({"tasks/main.yml": tasks})
    assert problem.startswith("ansible/app/tasks/main.yml:")
    assert "is named as what Tidegate gives the role" in problem


@pytest.mark.parametrize(
    "path", ["vars/main.yml", "vars/main/x.json", "vars/x", "defaults/main.yaml", "roles/inner/defaults/main.yml", "roles/inner/vars/x.yml"]
)
def test_files_of_variables_that_are_named_as_ours_are_refused(path: str) -> None:
    (problem,) = problems({path: '{"a": 1,\n "tidegate_x": 1}'})
    assert problem.startswith(f"ansible/app/{path}:2: 'tidegate_x' is named as")


@pytest.mark.parametrize(
    "include", ["include_vars: files/x.yml", "include_vars: {dir: files}", "include_vars: '{{ role_path }}/files/x.yml'"]
)
def test_variables_that_other_files_hold_are_looked_at(include: str) -> None:
    (problem,) = problems({"files/x.yml": "tidegate_x: 1", "files/x.bin": b"\0", "tasks/check.yml": f"- {include}\n"})
    assert problem.startswith("ansible/app/files/x.yml:1: 'tidegate_x'")


ROLES = {
    "include_role": "- include_role: {name: other}",
    "import_role": "- ansible.builtin.import_role: name=other",
    "role for name": "- include_role: {role: other}",
    "a path": "- include_role: {name: ../other}",
    "of no collection that is listed": "- include_role: {name: my.own.other}",
    "templated": "- include_role: {name: '{{ x }}'}",
    "encrypted": "- include_role: {name: !vault x}",
    "in args": "- include_role:\n  args: {name: other}",
}


@pytest.mark.parametrize("tasks", ROLES.values(), ids=ROLES)
def test_roles_that_are_not_in_the_role_are_refused(tasks: str) -> None:
    (problem,) = problems({"tasks/main.yml": tasks, "roles/inner/tasks/main.yml": NOTHING})
    assert "is not in the release" in problem or "which role" in problem


@pytest.mark.parametrize(
    "item", ["other", "{role: other}", "{name: other}", "{src: https://example.org/other}", "{when: x}", "my.own.other", "'{{ x }}'"]
)
@pytest.mark.parametrize("unit", ["", "roles/inner/"])
def test_dependencies_that_are_not_in_the_role_are_refused(item: str, unit: str) -> None:
    (problem,) = problems({f"{unit}meta/main.yml": f"dependencies:\n  - {item}\n", "roles/inner/tasks/main.yml": NOTHING})
    assert problem.startswith(f"ansible/app/{unit}meta/main.yml:2: ")


def test_what_a_dependency_is_given_must_not_be_named_as_ours() -> None:
    meta = "dependencies:\n  - role: inner\n    tidegate_x: 1\n  - role: inner\n    vars: {tidegate_y: 1}\n"
    found = problems({"meta/main.yml": meta, "roles/inner/tasks/main.yml": NOTHING})
    assert [problem.split(" is named")[0] for problem in found] == [
        "ansible/app/meta/main.yml:3: 'tidegate_x'", "ansible/app/meta/main.yml:5: 'tidegate_y'"
    ]  # fmt: skip


def test_roles_in_the_role_and_of_its_collections_are_good() -> None:
    tasks = "- include_role: {name: inner}\n- import_role: name=app tasks_from=check\n- include_role: {name: community.general.x.y}\n"
    meta = "galaxy_info: {author: me}\ndependencies: [inner, {role: community.general.y, vars: {x: 1}}]\n"
    assert problems({"tasks/main.yml": tasks, "meta/main.yml": meta, "roles/inner/tasks/main.yml": NOTHING}) == []


ODD: dict[str, tuple[str | bytes, str]] = {
    "no YAML": ("- x: 'y\n", "it is not valid YAML"),
    "a tab": ("- x:\n\t  y: 1\n", "it is not valid YAML"),
    "two documents": (f"{NOTHING}---\n{NOTHING}", "it is not valid YAML"),
    "not UTF-8": (b"# \xff\n- debug:\n", "it is not UTF-8 text"),
    "a control character": ("- debug: \x01\n", "a character in it that YAML does not allow"),
    "an escape beyond Unicode": ('- debug: "\\UFFFFFFFF"\n', "it "),
    "a key twice": ("- debug:\n    a: 1\n    a: 2\n", "'a' is given twice"),
    "itself": ("- debug: &a [*a]\n", "a part of what it stands for"),
    "deep": ("- debug: " + "[" * 200 + "]" * 200, "nested too deeply"),
    "deeper": ("[" * 100_000, "it "),
    "too large": ("- debug: " + "x" * role_documents.LIMIT, "larger than 1 MiB"),
}


@pytest.mark.parametrize(("content", "what"), ODD.values(), ids=ODD)
@pytest.mark.parametrize("path", ["tasks/main.yml", "handlers/main.yml", "vars/main.yml", "defaults/main.yml", "meta/main.yml"])
def test_files_that_can_not_be_read_are_refused(content: str | bytes, what: str, path: str) -> None:
    (problem,) = problems({path: content})
    assert problem.startswith(f"ansible/app/{path}:")
    assert what in problem


def test_yaml_is_read_without_libyaml_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    spec = importlib.util.spec_from_file_location("without_libyaml", str(role_documents.__file__))
    assert spec
    assert spec.loader
    without = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(without)
    node = without.read(b"- &a {meta: x}\n- *a\n", without.Budget())
    assert [without.line_of(item) for item in node.value] == [1, 1]
    with pytest.raises(without.UnreadableError, match="a part of what it stands for"):
        without.read(b"&a [*a]", without.Budget())


@pytest.mark.parametrize("content", ["a: 1\n", "text", "- text\n", "- [x]\n"])
def test_what_is_no_list_of_tasks_is_refused_where_tasks_are(content: str) -> None:
    (problem,) = problems({"tasks/main.yml": content})
    assert "this is no" in problem


@pytest.mark.parametrize(
    ("path", "good"),
    [("tasks/x.yml", False), ("handlers/x.yml", False), ("meta/main.yml", False), ("vars/x.yml", True), ("defaults/x.yml", True),
     ("files/key.pem", True), ("templates/x.j2", True)],
)  # fmt: skip
def test_nobody_can_look_into_encrypted_tasks(path: str, good: bool) -> None:
    found = problems({path: "$ANSIBLE_VAULT;1.1;AES256\n6162\n"})
    assert found == (
        [] if good else [f"ansible/app/{path}:1: it is encrypted, so nobody can look into it; keep what has to be secret in vars/"]
    )


def test_blocks_that_aliases_make_deep_are_refused() -> None:
    levels = ["a0: &a0 [{debug: }]", *(f"a{n}: &a{n} [{{block: *a{n - 1}}}]" for n in range(1, 2000))]
    found = problems({"tasks/main.yml": "- vars: {" + ", ".join(levels) + "}\n- block: *a1999\n"})
    assert found == ["ansible/app/tasks/main.yml:1: it is nested too deeply; correct it, or leave it out of the role"]


def test_a_bomb_is_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted are the nodes that are looked at, which are as many as there may be and not as the aliases come to."""
    levels = ["a0: &a0 {meta: noop}"] + [f"a{n}: &a{n} {{block: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 30)]
    bomb = "- vars:\n" + "".join(f"    {level}\n" for level in levels) + "  debug:\n- *a29\n"
    monkeypatch.setattr(role_documents, "_NODES", 20_000)
    spent = 0
    count = role_documents.Budget.spend

    def counted(budget: role_documents.Budget, node: yaml.Node) -> None:
        nonlocal spent
        spent += 1
        count(budget, node)

    monkeypatch.setattr(role_documents.Budget, "spend", counted)
    (problem,) = problems({"tasks/main.yml": bomb})
    assert "more than 20,000 keys and values" in problem
    assert spent <= 20_001


WIDE = {f"files/{'a' * 100}{n}": "" for n in range(300)}
HARD: dict[str, dict[str, str]] = {
    "braces that nobody closes": {"tasks/x.yml": "- include_tasks: {file: 'a" + "{{" * 200_000 + "'}"},
    "a word of braces": {"tasks/x.yml": "- script: {cmd: '" + "{{" * 200_000 + "'}"},
    "templates in a row": {**WIDE, "tasks/x.yml": "- include_tasks: {file: 'files/" + "a{{ x }}" * 30 + "b'}"},
    "many includes": {**WIDE, "tasks/x.yml": "".join(f"- include_tasks: '{{{{ x }}}}/{n}'\n" for n in range(3000))},
}


@pytest.mark.parametrize("files", HARD.values(), ids=HARD)
def test_no_role_keeps_an_archive_busy(files: dict[str, str]) -> None:
    """Each of these would take hours where a path is tried in every way; the limit is of CPU seconds, as for what people sign."""
    (found,) = run_limited([lambda: problems(files)])
    assert isinstance(found, list)


def test_links_in_links_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(role_documents, "_WAYS", 1000)
    assert problems({f"files/x/{n}": "" for n in range(100)}, links={f"tasks/{n}": "../files/x" for n in range(10)}) == []
    found = problems({f"files/x/{n}": "" for n in range(100)}, links={f"tasks/{n}": "../files/x" for n in range(11)})
    what = "the links and includes of the role lead to its files in more than 1,000 ways"
    assert found == [f"ansible/app: {what}; leave out of the role what does not belong there"]


# What roles that people share are made of.
USUAL = """---
- name: Include OS-specific variables.
  ansible.builtin.include_vars: "{{ ansible_facts.os_family }}.yml"
- name: Load the first that is there
  include_vars: "{{ lookup('first_found', params) }}"
  vars:
    params: {files: ["{{ ansible_distribution }}.yml", main.yml], paths: [vars]}
- include_vars: "{{ item }}"
  with_first_found: ["{{ ansible_distribution }}.yml", main.yml]
- include_tasks: setup-{{ ansible_os_family }}.yml
- include_tasks: "{{ role_path }}/tasks/check.yml"
  when: ansible_os_family == 'Debian'
  tags: [x]
- import_tasks: check.yml
- name: Packages
  package: {name: "{{ item }}", state: present}
  with_items: "{{ packages }}"
  notify: restart
- template: {src: "{{ conf_template }}", dest: /etc/x.conf, validate: nginx -t -c %s}
- template: src=x.conf.j2 dest=/etc/x.conf owner=root
- copy: {src: "{{ item.src }}", dest: "/etc/{{ item.dest }}"}
  loop: [{src: a, dest: /etc/a}, {src: b.conf, dest: ../x}]
- copy: {src: "{{ item }}", dest: /x}
  with_fileglob: ["{{ role_path }}/files/*.conf", extra/*.conf]
- copy: {src: /etc/skel/.bashrc, dest: /root/.bashrc, remote_src: yes}
- copy: {content: "a: ../b", dest: /x}
- unarchive: {src: https://example.org/x.tgz, dest: /opt, remote_src: true}
- unarchive: {src: /tmp/x.tgz, dest: /opt, copy: no}
- assemble: {src: /etc/x.d, dest: /etc/x}
- copy: {src: tree/, dest: /x}
- copy: {src: near, dest: /x}
- copy: {src: "{{ role_path }}/", dest: /x}
- synchronize: {src: /srv/a, dest: /srv/b}
  delegate_to: "{{ inventory_hostname }}"
- script: install.sh --to ../x creates=/opt/x
- shell: cd .. && echo {{ x }} > /etc/x
  args: {chdir: /tmp, creates: /etc/x}
- command: /usr/bin/meta end_play
- meta: flush_handlers
- ansible.builtin.meta: reset_connection
- meta: clear_facts
- meta: noop
- local_action: wait_for port=22 host={{ inventory_hostname }}
- action: debug msg="meta end_play"
- set_fact: {app_dir: "{{ tidegate_tree | default('/opt/app') }}", "{{ x }}_y": 1}
- debug: {msg: "{{ tidegate_version }}"}
- assert: {that: [tidegate_version is defined]}
- block:
    - command: x
  rescue:
    - fail: {msg: "meta: end_play"}
  always:
    - &again {service: {name: x, state: started}}
- <<: *again
  name: once more
- debug: {msg: !unsafe "{{ x }}"}
- no_log: true
  debug: {msg: !vault "x"}
- pause: {seconds: 1}
- wait_for_connection:
"""


def test_what_roles_usually_say_is_left_alone() -> None:
    other = {
        "tasks/main.yml": USUAL,
        "tasks/README.md": "- meta: [",
        **dict.fromkeys(("templates/x.conf.j2", "files/install.sh", "files/tree/x", "tasks/files/near", "files/shared"), "x"),
        "roles/inner/tasks/main.yml": "- copy: {src: shared, dest: /x}\n- import_tasks: more.yml\n",
        "roles/inner/tasks/more.yml": NOTHING,
        "handlers/main.yml": "- name: restart\n  service: {name: x, state: restarted}\n  listen: x\n",
        "defaults/main.yml": '---\napp_port: 8080\napp_url: "{{ tidegate_version }}"\n',
        "vars/Debian.yml": "__packages: [nginx]\nsecret: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  66\n",
        "vars/empty.yml": "---\n",
        "meta/main.yml": "---\ndependencies: []\n\ngalaxy_info:\n  role_name: app\n  platforms: [{name: Debian, versions: [all]}]\n",
        "meta/argument_specs.yml": "argument_specs: {main: {options: {tidegate_version: {type: str}}}}\n",
        "molecule/default/converge.yml": "- hosts: all\n  vars: {tidegate_x: y}\n  roles: [me.app]\n  tasks: [{meta: end_play}]\n",
        "molecule/default/tasks/x.yml": "- include_role: {name: other}\n- copy: {src: /x, dest: /x}\n- debug:\n  register: tidegate_x\n",
        "tests/test.yml": "---\n- hosts: localhost\n  remote_user: root\n  roles: [app]\n",
        "files/dashboards.yml": "- name: x\n  meta: {owner: me}\n  action: '{{ x }}'\n",
        "templates/rules.yml.j2": "{% for x in y %}\n- meta: {{ x }}\n{% endfor %}\n",
        "library/thing.py": "#!/usr/bin/python\n",
        ".github/workflows/ci.yml": "on: [push]\njobs: {x: {steps: [{run: x}]}}\n",
        "requirements.yml": "- src: geerlingguy.java\n- name: x\n",
        "files/logo.png": b"\x89PNG\x00",
    }
    assert problems(other) == []


Spell = Callable[[str, str], dict[str, Any]]
SPELLINGS: list[Spell] = [
    lambda name, args: {name: args},
    lambda name, args: {f"ansible.builtin.{name}": args},
    lambda name, args: {f"ansible.legacy.{name}": args},
    lambda name, args: {"action": f"{name} {args}"},
    lambda name, args: {"action": f"ansible.builtin.{name}   {args}"},
    lambda name, args: {"local_action": f" {name} {args}"},
    lambda name, args: {"action": {"module": f"{name} {args}"}},
    lambda name, args: {"action": {"module": name, "args": args}},
    lambda name, args: {"local_action": {"module": name, "_raw_params": args}},
    lambda name, args: {name: None, "args": {"_raw_params": args}},
]
AROUND: list[Callable[[list[Any]], dict[str, Any]]] = [
    lambda tasks: {"block": tasks},
    lambda tasks: {"block": [], "rescue": tasks},
    lambda tasks: {"name": "x", "block": [{"debug": None}], "always": tasks},
    lambda tasks: {"include_tasks": {"file": "check.yml", "apply": {"rescue": tasks}}},
    lambda tasks: {"action": {"module": "include_tasks", "file": "check.yml", "apply": {"always": tasks}}},
]


@settings(max_examples=150, deadline=None)
@given(
    bad=st.sampled_from(
        [("meta", "end_play"), ("meta", "end_host"), ("meta", "refresh_inventory"), ("add_host", "name=x"), ("group_by", "key=x")]
    ),
    spell=st.sampled_from(SPELLINGS),
    around=st.lists(st.sampled_from(AROUND), max_size=6),
    place=st.sampled_from(PLACES),
    beside=st.integers(0, 2),
    dump=st.sampled_from([json.dumps, yaml.safe_dump, lambda tasks: yaml.safe_dump(tasks, default_flow_style=True)]),
)
def test_any_nesting_and_spelling_is_found_and_what_is_harmless_passes(
    bad: tuple[str, str],
    spell: Spell,
    around: list[Callable[[list[Any]], dict[str, Any]]],
    place: str,
    beside: int,
    dump: Callable[[Any], str],
) -> None:
    def written(task: dict[str, Any]) -> str:
        tasks: list[Any] = [{"debug": None}] * beside + [task]
        for wrap in around:
            tasks = [wrap(tasks)]
        # Each alias of PyYAML's own making would do too, but JSON has none.
        return dump(json.loads(json.dumps(tasks)))

    (problem,) = problems({place: written(spell(*bad))})
    assert problem.startswith(f"ansible/app/{place}:")
    assert problems({place: written(spell("meta", "flush_handlers"))}) == []
    assert problems({place: written(spell("debug", "msg=end_play"))}) == []


@pytest.mark.parametrize(
    ("path", "at", "what"),
    [
        ("callback_plugins/spy.py", "callback_plugins", "a plugin that Ansible would take for the whole run"),
        ("roles/inner/vars_plugins/more.py", "roles/inner/vars_plugins", "a plugin that Ansible would take for the whole run"),
        (".git/config", ".git", "it has what was and is in work"),
        ("files/site/.git", "files/site/.git", "it has what was and is in work"),
    ],
)
def test_what_has_no_place_in_a_role_is_refused_once(path: str, at: str, what: str) -> None:
    (found,) = problems({path: "x", f"{path}2": "y"} if path.endswith(".py") else {path: "x"})
    assert found.startswith(f"ansible/app/{at}:1: {what}")
    assert (
        problems({"library/app_module.py": "x", "filter_plugins/app.py": "x", "files/callback_plugins/x": "x", "files/.gitignore": "x"})
        == []
    )
