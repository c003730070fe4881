# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs of the command: which there are, what one takes, and its run."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from ..actions.verb_options import read_verb
from .arguments import add_options, long_options

_COLLECTION = Path(__file__).parents[3]
_PLAYBOOKS = _COLLECTION / "playbooks"


def verb_names() -> list[str]:
    """Every verb, which is a playbook of the collection, in order."""
    return sorted(path.stem for path in _PLAYBOOKS.glob("*.yml"))


def sentence(verb: str) -> str:
    """What a verb does, as the head of its playbook says."""
    with (_PLAYBOOKS / f"{verb}.yml").open(encoding="utf-8") as file:
        comment = " ".join(line.removeprefix("#").strip() for line in file if line.startswith("#"))
    return comment.split(". ", maxsplit=1)[0].split(" Variable", maxsplit=1)[0].rstrip(".")


def play(verb: str, arguments: Sequence[str], settings: Mapping[str, str]) -> NoReturn:
    """Become the ansible-playbook that runs a verb's playbook, with ``settings`` in its environment.

    What is sent to the command is sent to that, and its exit status is the command's.
    """
    sys.stdout.flush()
    command = [sys.executable, "-m", "ansible", "playbook", f"tidegate.release.{verb}", *arguments]
    os.execve(sys.executable, command, {**os.environ, **settings, "TIDEGATE_ONLY_WORDS": "true"})  # noqa: S606 - no shell is wanted


def version() -> str:
    """The version of the collection that this file is of: Galaxy writes a manifest, pip leaves ``galaxy.yml``."""
    manifest, galaxy = _COLLECTION / "MANIFEST.json", _COLLECTION / "galaxy.yml"
    if manifest.is_file():
        return str(json.loads(manifest.read_text(encoding="utf-8"))["collection_info"]["version"])
    return next(line.split()[1] for line in galaxy.read_text(encoding="utf-8").splitlines() if line.startswith("version:"))


def nearest(name: str, known: Iterable[str]) -> str:
    """The name among ``known`` that was probably meant, empty when there is none."""
    return next(iter(difflib.get_close_matches(name, list(known), 1)), "")


def option_names(verbs: Iterable[str], aliases: Mapping[str, str]) -> dict[str, list[str]]:
    """By verb, and by other names of it, all its options."""
    found = {}
    for verb in verbs:
        parser = argparse.ArgumentParser(add_help=False)
        add_options(parser, verb, read_verb(verb).options)
        found[verb] = long_options(parser)
    return found | {name: found[verb] for name, verb in aliases.items()}
