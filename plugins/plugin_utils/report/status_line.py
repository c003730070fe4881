# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The line of a terminal that is drawn anew while something is under way; with rich, where that is installed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TextIO

with contextlib.suppress(ImportError):
    import rich.console
    import rich.live
    import rich.progress_bar
    import rich.table
    import rich.text

from .progress import hosts


def live(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether a bar can be drawn: a terminal that can move its cursor, nobody asked for plain text, rich is there."""
    return (
        "rich" in globals()
        and stream.isatty()
        and environment.get("TERM", "dumb") != "dumb"
        and not any(environment.get(name) for name in ("NO_COLOR", "CI", "ANSIBLE_NOCOLOR"))
    )


class Bar:
    """One line at the bottom of the terminal that follows a task; :meth:`clear` takes it away without a trace.

    It is redrawn only when a host reports or a worker says that it goes on: a refreshing thread would not survive the forks that Ansible
    works with.
    """

    def __init__(self) -> None:
        self._live: rich.live.Live | None = None

    def draw(self, label: str, done: int, total: int, bad: int, seconds: float) -> None:
        """Show the bar, or bring it up to date."""
        color = "red" if bad else "cyan"
        grid = rich.table.Table.grid(padding=(0, 1))
        grid.add_row(
            rich.text.Text(f"  {label}"),
            rich.progress_bar.ProgressBar(total=max(total, done, 1), completed=done, width=30, complete_style=color, finished_style=color),
            rich.text.Text(f"{done}/{hosts(max(total, done))}"),
            rich.text.Text(f"{bad} failed", style="bold red" if bad else "dim"),
            rich.text.Text(f"{seconds:.1f} s", style="dim"),
        )
        self._show(grid)

    def status(self, line: str) -> None:
        """Show a line of words in place of a bar."""
        self._show(rich.text.Text(f"  {line}", style="dim", no_wrap=True, overflow="ellipsis"))

    def clear(self) -> None:
        """Take the bar away, so that something else can be printed."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _show(self, what: rich.console.RenderableType) -> None:
        if self._live is None:
            console = rich.console.Console()
            self._live = rich.live.Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
            self._live.start()
            console.show_cursor(True)  # a killed run must not leave the terminal without one
        self._live.update(what, refresh=True)
