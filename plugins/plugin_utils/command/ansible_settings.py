# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible is told when the command runs it: the settings that the verbs are best with, where their user has no other."""

from __future__ import annotations

import configparser
import os
import stat
from collections.abc import Collection, Mapping
from pathlib import Path

# By variable of Ansible's environment: the option of ansible.cfg that says the same, other variables that do, and the value.
_SETTINGS: Mapping[str, tuple[str, Collection[str], str]] = {
    "ANSIBLE_STDOUT_CALLBACK": ("stdout_callback", (), "tidegate.release.progress"),
    "ANSIBLE_FORKS": ("forks", (), "25"),
    "ANSIBLE_LOCALHOST_WARNING": ("localhost_warning", (), "false"),
    "ANSIBLE_INVENTORY_UNPARSED_WARNING": ("inventory_unparsed_warning", (), "false"),
    "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": ("any_unparsed_is_failed", (), "true"),
    "ANSIBLE_PIPELINING": ("pipelining", ("ANSIBLE_SSH_PIPELINING",), "true"),
    "ANSIBLE_SSH_ARGS": ("ssh_args", (), "-o ControlMaster=auto -o ControlPersist=60s"),
}


def missing_settings(environment: Mapping[str, str], configured: Collection[str]) -> dict[str, str]:
    """The variables to set for Ansible: those that neither ``environment`` nor the options ``configured`` in ansible.cfg decide."""
    return {
        name: value
        for name, (option, others, value) in _SETTINGS.items()
        if option not in configured and not any(environment.get(variable) for variable in (name, *others))
    }


def configured_options(environment: Mapping[str, str], folder: Path) -> set[str]:
    """The names of all options in the ansible.cfg that Ansible would read in ``folder``; none where it reads none, or can't.

    Which file that is: `Ansible's documentation of its configuration <https://docs.ansible.com/ansible/latest/reference_appendices/config.html>`_.
    """
    path = configuration_file(environment, folder)
    if path is None:
        return set()
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";",), strict=False)
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return set()  # Ansible says what is wrong with it
    return {option for section in parser.sections() for option in parser.options(section)}


def configuration_file(environment: Mapping[str, str], folder: Path) -> Path | None:
    """The ansible.cfg that Ansible would read in ``folder``, if there is any."""
    return next((path for path in _candidates(environment, folder) if path.is_file() and os.access(path, os.R_OK)), None)


def _candidates(environment: Mapping[str, str], folder: Path) -> list[Path]:
    named = environment.get("ANSIBLE_CONFIG")
    given = [Path(named, "ansible.cfg") if Path(named).is_dir() else Path(named)] if named else []
    here = [] if folder.stat().st_mode & stat.S_IWOTH else [folder / "ansible.cfg"]
    return [*given, *here, Path("~/.ansible.cfg").expanduser(), Path("/etc/ansible/ansible.cfg")]
