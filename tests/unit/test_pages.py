# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every block of code in README and docs is run by a test, held against the code, or listed with the reason why neither can be.

A block is run where a test follows its page. What is too dear to run, or shows a part of a document, is checked here: documents by what
reads them, commands by what takes their options. A new block that nothing looks at fails.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.documentation import documented
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.verb_options import read_verbs
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.model import build_model
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.team_model import load_team_model, shipped_document
from ansible_collections.tidegate.release.plugins.plugin_utils.command import completion, init, look, main
from ansible_collections.tidegate.release.plugins.plugin_utils.command.arguments import add_options
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.manifest import load_manifest
from documents import RELEASE, write_document
from pages import GUIDES, OWN_TESTS, ROOT, Block, blocks, followed_alike, pages

VERBS = read_verbs()
# A variable that begins so is a verb's; others belong to roles, or to Ansible.
_VARIABLE = re.compile(r"\b(tidegate_\w+)=")
_SPAN = re.compile(r"(?<!`)`((?:tidegate|ansible-playbook tidegate\.release\.)[^`\n]*)`(?!`)")


# --- what checks a block -----------------------------------------------------------------------------------------------------------------


def manifest(block: Block, folder: Path) -> None:
    """A release.yml, or keys of one, with the rest that such a release needs."""
    keys = yaml.safe_load(block.code)
    kind = keys.get("kind", "software")
    always = {key: RELEASE[key] for key in ("schema", "name", "version", "type", "summary", "documentation")}
    rest = {**RELEASE, "hooks": {}} if kind == "software" else always
    if "packages" in keys:
        (folder / "payload" / "debs").mkdir(parents=True)
    load_manifest(write_document(folder / "release.yml", {**rest, **keys}))


def team_model(block: Block, folder: Path) -> None:
    """The model of a CMDB that a team makes its own."""
    (folder / "model.yml").write_text(block.code)
    build_model(shipped_document(), load_team_model(folder / "model.yml"))


def commands(block: Block, folder: Path) -> None:
    """Commands whose verbs and options there are, and files of the checkout that they name."""
    lines = block.code.replace("\\\n", " ").splitlines()
    for line in lines:
        fault = command_fault(line.removeprefix("$ "))
        assert not fault, f"{line}: {fault}"
        for name in re.findall(r"(?<!\S)(?:requirements|tools)/[\w./-]+|(?<!\S)constraints\.txt", line):
            assert (ROOT / name).is_file(), line


def make_targets(block: Block, folder: Path) -> None:
    """Targets of the Makefile."""
    targets = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text())
    named = [line.split()[1] for line in block.code.splitlines()]
    assert set(named) <= set(targets)


def variables(block: Block, folder: Path) -> None:
    """Extra variables that verbs take, given by what they leave for the next job."""
    given = yaml.safe_load(block.code)
    known = {name for about in VERBS.values() for name in about.options}
    assert given.keys() <= known
    code = "".join(path.read_text() for path in (ROOT / "plugins" / "plugin_utils" / "actions").glob("*.py"))
    code += "".join(path.read_text() for path in (ROOT / "plugins" / "action").glob("*.py"))
    for left in re.findall(r"(tidegate_\w+)\.", block.code):
        assert f'"{left}"' in code or left.removeprefix("tidegate_") in code


def play(block: Block, folder: Path) -> None:
    """A play whose roles and action groups there are."""
    groups = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["action_groups"]
    for one in yaml.safe_load(block.code):
        for name, options in one.get("module_defaults", {}).items():
            members = groups[name.removeprefix("group/tidegate.release.")]
            for member in members:
                assert options.keys() <= documented(str(member).rpartition(".")[2]).keys(), member
        for role in one.get("roles", ()):
            assert (ROOT / "roles" / role.removeprefix("tidegate.release.") / "tasks" / "main.yml").is_file()


def credential_type(block: Block, folder: Path) -> None:
    """A credential type of a controller, which gives each of its fields to a variable of the environment that is read."""
    given = yaml.safe_load(block.code)
    fields = [field["id"] for field in given["inputs"]["fields"]]
    assert set(given["inputs"]["required"]) <= set(fields)
    assert given["injectors"]["env"] == {f"TIDEGATE_{field.upper()}": f"{{{{ {field} }}}}" for field in fields}


def command_fault(text: str) -> str:
    """What is wrong with a command, if it is one of ours."""
    words = shlex.split(text.replace("…", "X"), comments=True)
    if any(re.fullmatch(r".*<\w+>", word) for word in words[:2]):  # any verb
        return ""
    match words:
        case ["tidegate", *rest]:
            return _fault_of_ours([word for word in rest if word not in ("[OPTIONS]",)])
        case ["ansible-playbook", name, *_] if name.startswith("tidegate.release."):
            verb = name.removeprefix("tidegate.release.")
            if verb not in VERBS:
                return f"{verb} is no verb"
            known = {*VERBS[verb].options, *re.findall(r"\btidegate_\w+", (ROOT / "playbooks" / f"{verb}.yml").read_text())}
            unknown = sorted(set(_VARIABLE.findall(text)) - known - {"tidegate_settings", "tidegate_become"})
            return f"{', '.join(unknown)} is nothing that {verb} takes" if unknown else ""
    return ""


def _fault_of_ours(words: list[str]) -> str:
    name, *given = words or ["--help"]
    name = name.replace("-", "_") if name[0] != "-" else name
    if name in ("--help", "--version") or given == ["--help"]:
        return "" if name[0] == "-" or name in {*VERBS, *look.LOOKS, *main._ALIASES, "init"} else f"{name} is no verb"
    if name == "completion":
        return "" if not given or given[0] in completion.SHELLS else f"{given[0]} is no shell"
    if name == "init":
        parser = init.parser("")
    else:
        parser = argparse.ArgumentParser(allow_abbrev=False)
        verb = main._ALIASES.get(name, name)
        if name in look.LOOKS:
            look.LOOKS[name][0](parser)
        elif verb in VERBS:
            add_options(parser, name, VERBS[verb].options)
            main.add_ansible(parser)
        else:
            return f"{name} is no verb"
    own = given[: given.index("--")] if "--" in given else given
    known = {option for action in parser._actions for option in action.option_strings}
    unknown = [word for word in own if word.startswith("-") and word.partition("=")[0] not in known]
    return f"{', '.join(unknown)} is nothing that {name} takes" if unknown else ""


# --- which block is checked how ----------------------------------------------------------------------------------------------------------

CHECKED: dict[str, Callable[[Block, Path], None]] = {
    "CONTRIBUTING.md: make dev        # .venv with everything; PYTHON=/path/to/pyt": make_targets,
    "docs/cmdb.md: schema: 1": team_model,
    "docs/dhs.md: kind: hardware": manifest,
    "docs/dhs.md: $ ansible-playbook tidegate.release.swap -e tidegate_rfc=CHG": commands,
    "docs/dsl.md: ansible:": manifest,
    "docs/dsl.md: packages:": manifest,
    "docs/execution-environment.md: python3 -m pip install -c constraints.txt -r requirements/ba": commands,
    "docs/firmware.md: kind: firmware": manifest,
    "docs/firmware.md: effect: outside                    # tree unless given": manifest,
    "docs/guides/eda.md: ansible-playbook tidegate.release.approve -e tidegate_rfc=/s": commands,
    "docs/guides/eda.md: inputs:": credential_type,
    'docs/jobs.md: tidegate_name: "{{ tidegate_archived.name }}"': variables,
    "docs/slices.md: ansible-playbook tidegate.release.deploy -i slice.yml -e tid": commands,
    "docs/step-by-step.md: # release.yml": manifest,
    "docs/verbs.md: - hosts: localhost": play,
}  # fmt: skip

# Blocks, by page and language, that another test runs or compares; the test names the page.
ELSEWHERE = {
    ("README.md", "console"): "tests/integration/test_readme.py",
    ("docs/architecture.md", "text"): "tests/unit/test_house.py",
    ("docs/guides/awx.md", "console"): OWN_TESTS["awx"],
    ("docs/guides/awx.md", "yaml"): OWN_TESTS["awx"],
    ("docs/history.md", "sql"): "tests/integration/test_cmdb_database.py",
    ("docs/host.md", "text"): "tests/unit/test_house.py",
    ("docs/step-by-step.md", "console"): "tests/integration/test_readme.py",
    ("docs/step-by-step.md", "ini"): "tests/integration/test_output.py",
    ("docs/verbs.md", "console"): "tests/integration/test_readme.py",
    ("docs/guides/molecule.md", "indented"): OWN_TESTS["molecule"],
    **{(f"docs/guides/{page}.md", "*"): "tests/integration/test_guides.py" for page in followed_alike()},
    ("docs/guides/first-release.md", "*"): OWN_TESTS["first-release"],
}

# Blocks of pages of which a test runs only some, by name.
ONE_BY_ONE = {
    "docs/guides/eda.md: tidegate_position: rulebook.position   # how far the events": OWN_TESTS["eda"],
    "docs/guides/eda.md: ansible-rulebook --rulebook tidegate.release.deploy_approved": OWN_TESTS["eda"],
    "docs/step-by-step.md: # cmdb.yml": "tests/integration/test_readme.py",
}  # fmt: skip

NOT_RUN = {
    "docs/execution-environment.md: ansible-galaxy collection build /path/to/tidegate": (
        "an image is made out of images on the internet; test_execution_environment.py has ansible-builder write what the image is made by"
    ),
    "docs/guides/awx.md: archive ─► verify ─► go live? ─► clear ─► stage ─► deploy ─(": (
        "a drawing of the workflow, whose nodes test_awx.py finds in AWX"
    ),
    "docs/host.md: <root>/.program/                      the host program, by i": ("a drawing of a directory"),
    "docs/host.md: cat >order.json <<'EOF'": "a person fills it in; unit/host/test_program.py runs the program with such an order",
}


def _place(block: Block) -> str:
    """Who looks at a block; empty for nobody."""
    for one in ((block.page, block.language), (block.page, "*")):
        if one in ELSEWHERE:
            return ELSEWHERE[one]
    return ONE_BY_ONE.get(block.name) or NOT_RUN.get(block.name) or ("here" if block.name in CHECKED else "")


BLOCKS = [block for path in pages() for block in blocks(path)]


def test_every_block_of_code_is_run_or_checked() -> None:
    assert len(BLOCKS) > 200
    assert [block.name for block in BLOCKS if not _place(block)] == []


def test_nothing_is_listed_that_no_page_has() -> None:
    names = {block.name for block in BLOCKS}
    assert {*CHECKED, *ONE_BY_ONE, *NOT_RUN} - names == set()
    kinds = {(block.page, block.language) for block in BLOCKS} | {(block.page, "*") for block in BLOCKS}
    assert ELSEWHERE.keys() - kinds == set()


@pytest.mark.parametrize("page", sorted({page for page, _language in ELSEWHERE} | {name.partition(":")[0] for name in ONE_BY_ONE}))
def test_the_test_that_follows_a_page_reads_it(page: str) -> None:
    tests = {test for (one, _language), test in ELSEWHERE.items() if one == page}
    tests |= {test for name, test in ONE_BY_ONE.items() if name.startswith(f"{page}:")}
    for test in tests:
        text = (ROOT / test).read_text()
        # test_guides.py takes every page that is there; the scenario of molecule is tried where its page says that it is.
        taken = "followed_alike()" in text or "extensions" in text if page.startswith("docs/guides/") else False
        assert taken or Path(page).name in text, f"{test} does not speak of {page}"


@pytest.mark.parametrize("block", [pytest.param(block, id=block.name[:80]) for block in BLOCKS if block.name in CHECKED])
def test_a_block_holds(block: Block, tmp_path: Path) -> None:
    CHECKED[block.name](block, tmp_path)


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_that_a_page_names_is_one(path: Path) -> None:
    """In sentences and tables too: the verb and its options are those that there are."""
    found = [*_SPAN.findall(path.read_text())]
    found += [
        line.removeprefix("$ ")
        for block in blocks(path)
        for line in block.code.replace("\\\n", " ").splitlines()
        if "console" in block.language
    ]
    assert [f"{text}: {fault}" for text in found if (fault := command_fault(text))] == []


@pytest.mark.parametrize(
    "text", ["tidegate depoly rfc.yml", "tidegate deploy rfc.yml --forse", "ansible-playbook tidegate.release.deploy -e tidegate_rcf=x"]
)
def test_a_command_that_is_none_is_found(text: str) -> None:
    assert command_fault(text)


@pytest.mark.parametrize("path", sorted(ROOT.glob("roles/*/README.md")), ids=lambda path: path.parent.name)
def test_what_the_page_of_a_role_imports_is_there(path: Path) -> None:
    found = list(blocks(path))
    assert found
    for block in found:
        for task in yaml.safe_load(block.code):
            given: dict[str, Any] = task["ansible.builtin.import_role"]
            role = ROOT / "roles" / given["name"].removeprefix("tidegate.release.")
            assert (role / "tasks" / f"{given.get('tasks_from', 'main')}.yml").is_file()


def test_guides_are_followed_alike_but_for_those_with_a_test_of_their_own() -> None:
    assert {path.stem for path in GUIDES.glob("*.md")} == {*followed_alike(), *OWN_TESTS}
    assert all((ROOT / test).is_file() for test in OWN_TESTS.values())


def test_the_first_page_leads_to_every_guide() -> None:
    first = (ROOT / "README.md").read_text()
    assert [path.name for path in sorted(GUIDES.glob("*.md")) if f"](docs/guides/{path.name})" not in first] == []
