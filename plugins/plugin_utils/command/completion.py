# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Completion of the command's verbs and options, as a script for a shell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SHELLS = ("bash", "fish", "zsh")
_BASH = """\
_tidegate() {{
  local words word="${{COMP_WORDS[COMP_CWORD]}}"
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{verbs}" -- "$word"))
    return
  fi
  case "${{COMP_WORDS[1]}}" in
{cases}
    *) words="" ;;
  esac
  case "$word" in
    -*) COMPREPLY=($(compgen -W "$words" -- "$word")) ;;
  esac
}}
complete -o default -F _tidegate tidegate"""


def script(shell: str, options: Mapping[str, Sequence[str]]) -> str:
    """A script that completes the verbs and the ``options`` of each; what is no option is left to the shell, which completes files.

    ``shell`` is one of :data:`SHELLS`. All names are this collection's, letters, digits and hyphens, so none needs quoting.
    """
    return {"bash": _bash, "fish": _fish, "zsh": _zsh}[shell](options)


def _bash(options: Mapping[str, Sequence[str]]) -> str:
    cases = "\n".join(f'    {verb}) words="{" ".join(own)}" ;;' for verb, own in sorted(options.items()))
    return _BASH.format(verbs=" ".join(sorted(options)), cases=cases)


def _zsh(options: Mapping[str, Sequence[str]]) -> str:
    return f"autoload -U +X bashcompinit && bashcompinit\n{_bash(options)}"


def _fish(options: Mapping[str, Sequence[str]]) -> str:
    lines = [f"complete -c tidegate -n __fish_use_subcommand -f -a '{' '.join(sorted(options))}'"]
    for verb, own in sorted(options.items()):
        lines += [f"complete -c tidegate -n '__fish_seen_subcommand_from {verb}' -l {name.removeprefix('--')}" for name in own]
    return "\n".join(lines)
