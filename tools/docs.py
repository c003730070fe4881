# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the site of the documentation, ``build/docs/site``: the pages of ``docs``, one for each verb, and the reference of all plugins.

A link to a page goes to it there, one to another file to the repository, and one to nothing ends this; so does every warning.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.verb_options import VerbOptions, read_verbs
from role_options import kind, meaning

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "docs"
SOURCE, SITE = BUILD / "source", BUILD / "site"
COLLECTION = "tidegate.release"
_FENCE = re.compile(r"(?ms)^(```.*?^```)$")
_LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)\s#]+)(#[^)\s]*)?\)")
_CONTENTS = re.compile(r"(?m)^\.\. contents::\n(?:[ \t]+.*\n)*")
_VARIABLE = re.compile(r"\btidegate_\w+")
# What stands in the column beside the text, in this order; the rest of docs is about how it is built.
_GUIDES = ("why", "step-by-step", "guides/*", "policy", "messages", "figures", "firmware", "dhs", "slices", "jobs", "execution-environment")
_REFERENCE = ("verbs", "glossary", "controls", "schemas/*", "reference/index")
_DECISIONS = ("```{toctree}", ":hidden:", ":glob:", "", "[0-9]*", "```")
_CONFIGURATION = """\
project = "Tidegate"
author = copyright = "Tidegate maintainers"
extensions = ["myst_parser", "sphinx.ext.intersphinx", "sphinx_antsibull_ext"]
html_theme = "furo"
html_title = "Tidegate {version}"
html_copy_source = html_show_sphinx = False
html_theme_options = {{"top_of_page_buttons": []}}  # many pages are made, and can't be edited where they would lead
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4
intersphinx_mapping = {{"ansible": ("{ansible}", "ansible.inv")}}
"""
# What the reference refers to in Ansible's own documentation. It is written here, so that the site is made without a network.
_ANSIBLE = "https://docs.ansible.com/projects/ansible/latest/"
_LABELS = {
    "action_plugins": "plugins/action.html#action-plugins",
    "ansible_collections.ansible.builtin.default_callback": "collections/ansible/builtin/default_callback.html",
    "ansible_configuration_settings": "reference_appendices/config.html#ansible-configuration-settings",
    "callback_plugins": "plugins/callback.html#callback-plugins",
    "common_return_values": "reference_appendices/common_return_values.html#common-return-values",
}
_VARIABLES = ("ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED", "ANSIBLE_NOCOLOR", "ANSIBLE_STDOUT_CALLBACK", "NO_COLOR")


def main() -> None:
    shutil.rmtree(BUILD, ignore_errors=True)
    SOURCE.mkdir(parents=True)
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text())
    (SOURCE / "conf.py").write_text(_CONFIGURATION.format(**galaxy, ansible=_ANSIBLE))
    (SOURCE / "ansible.inv").write_bytes(inventory())
    write_pages(galaxy["repository"])
    write_verbs()
    (SOURCE / "reference").mkdir()
    _run("antsibull-docs", "collection", "--use-current", "--squash-hierarchy", "--fail-on-error", "--dest-dir", "reference", COLLECTION)
    for path in (SOURCE / "reference").glob("*.rst"):
        path.write_text(_CONTENTS.sub("", path.read_text()))  # the theme has that beside the text
    _run("sphinx-build", "-q", "-W", "--keep-going", "-j", "auto", "-b", "html", ".", str(SITE))
    print(f"{SITE.relative_to(ROOT)}/index.html has {len(list(SITE.rglob('*.html')))} pages")


def inventory() -> bytes:
    """What Ansible's documentation has for others to refer to, as Sphinx keeps that."""
    lines = [f"{label} std:label -1 {place} {label}" for label, place in _LABELS.items()]
    lines += [f"{name} std:envvar 1 reference_appendices/config.html#envvar-$ -" for name in _VARIABLES]
    head = "# Sphinx inventory version 2\n# Project: Ansible\n# Version: latest\n# The remainder of this file is compressed using zlib.\n"
    return head.encode() + zlib.compress("".join(f"{line}\n" for line in lines).encode())


def pages() -> dict[str, str]:
    """The files in Markdown that become pages, by where they are in the repository; where they are in the site."""
    found = {str(path.relative_to(ROOT)): str(path.relative_to(ROOT / "docs")) for path in sorted((ROOT / "docs").rglob("*.md"))}
    return {"README.md": "index.md", **{name: place.replace("README.md", "index.md") for name, place in found.items()}}


def write_pages(repository: str) -> None:
    """The pages that are written by hand, with their links as the site has them."""
    of_pages, broken = pages(), []
    pictures = {str(path.relative_to(ROOT)): str(path.relative_to(ROOT / "docs")) for path in sorted((ROOT / "docs").rglob("*.svg"))}
    there = of_pages | pictures
    for name, place in pictures.items():
        shutil.copyfile(ROOT / name, SOURCE / place)
    for name, place in of_pages.items():
        parts = _FENCE.split((ROOT / name).read_text())
        for number in range(0, len(parts), 2):  # between them are blocks of code
            parts[number] = _LINK.sub(lambda match, name=name, place=place: _linked(match, name, place, there, repository), parts[number])
        text = "".join(parts)
        broken += [f"{name} links to {target}, which is not there" for target in re.findall(r"\]\(missing:([^)]*)\)", text)]
        target = SOURCE / place
        target.parent.mkdir(parents=True, exist_ok=True)
        more = {"index.md": _columns(set(of_pages.values())), "decisions/index.md": iter(_DECISIONS)}.get(place, iter(()))
        target.write_text("\n".join([text, *more, ""]))
    if broken:
        raise SystemExit("\n".join(broken))


def _linked(match: re.Match[str], name: str, place: str, there: dict[str, str], repository: str) -> str:
    """A link of the page ``name``, which is at ``place`` in the site."""
    goal = os.path.normpath(PurePosixPath(name).parent / match[1])
    fragment = match[2] or ""
    if goal in there or f"{goal}/README.md" in there:
        page = there.get(goal) or there[f"{goal}/README.md"]
        return f"]({os.path.relpath(page, PurePosixPath(place).parent)}{fragment})"
    path = ROOT / goal
    if goal.startswith("..") or not path.exists():
        return f"](missing:{match[1]})"
    return f"]({repository}/{'tree' if path.is_dir() else 'blob'}/main/{goal}{fragment})"


def _columns(places: set[str]) -> Iterator[str]:
    """The tables of contents of the first page."""
    rest = {place.removesuffix(".md") for place in places} - {"index"}
    for caption, patterns in {"Guides": _GUIDES, "Verbs": ("verbs/*",), "Reference": _REFERENCE, "How it is built": ("*",)}.items():
        yield from ("```{toctree}", ":hidden:", ":maxdepth: 1", f":caption: {caption}", "")
        if patterns == ("verbs/*",):
            yield from (f"verbs/{verb}" for verb in read_verbs())
        for pattern in patterns:
            found = sorted(place for place in rest if fnmatchcase(place, pattern) and (pattern != "*" or "/" not in place))
            yield from found
            rest -= set(found)
        yield from ("reference/index",) if caption == "Reference" else ()
        yield from ("decisions/index",) if caption == "How it is built" else ()
        yield from ("```", "")


def write_verbs() -> None:
    """A page for each verb, made of what its playbook and its options say."""
    folder = SOURCE / "verbs"
    folder.mkdir()
    for verb, about in read_verbs().items():
        (folder / f"{verb}.md").write_text("\n".join(_verb(verb, about)))


def _verb(verb: str, about: VerbOptions) -> Iterator[str]:
    yield from (f"# {verb}", "", about.description, "")
    needed = "".join(f" -e {name}=…" for name, option in about.options.items() if option.get("required"))
    yield from ("```console", f"ansible-playbook {COLLECTION}.{verb}{needed}", "```", "")
    for name, option in about.options.items():
        yield from (f"`{name}` ({kind(option)})", f": {meaning(option)}", "")
    comment = "".join(line for line in (ROOT / "playbooks" / f"{verb}.yml").read_text().splitlines(True) if line.startswith("#"))
    others = [name for name in dict.fromkeys(_VARIABLE.findall(comment)) if name not in about.options]
    if others:
        yield from (f"Its plays also read {', '.join(f'`{name}`' for name in others)}.", "")
    yield "The modules and roles that it is made of are in the [reference](../reference/index)."


def _run(*command: str) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / command[0]), *command[1:]], cwd=SOURCE, check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stdout}{done.stderr}".rstrip())


if __name__ == "__main__":
    main()
