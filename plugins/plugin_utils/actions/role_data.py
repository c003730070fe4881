# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a release's own role does to data: once before the first wave, and once after the last host is back."""

from __future__ import annotations

from pathlib import Path

from ..clock import utc_now
from ..errors import TidegateError
from ..rollout.data_journal import DataJournal
from ..rollout.deployments import Target
from ..rollout.leftovers import log_of
from ..rollout.role_play import on_data
from .role_run import NotBegunError
from .role_wave import RoleWave


class RoleData(RoleWave):
    """The steps ``migrate`` and ``reverse`` of the role of a deployment's release; to be made as :class:`RoleWave` is."""

    _journal: DataJournal

    def migrate(self) -> str:
        """Migrate the data; return why that did not end well, empty when it did. What became of it is in the journal then.

        Raises :class:`TidegateError` when it was not begun: the package is not trusted any more, or it is not the time.
        """
        self._refuse_distrusted()
        return self._change("migrate", self._journal.begin_migrate(self._run, utc_now()))

    def reverse(self) -> str:
        """Bring the data back, as :meth:`migrate` migrates them; to go back nobody has to trust the package."""
        return self._change("reverse", self._journal.begin_reverse(self._run, utc_now()))

    def _change(self, step: str, target: Target) -> str:
        self._before, self._resumed = {target.host: target}, [target.host]
        parts = on_data(self._role, step, self._what, target.host)
        try:
            problem = self._do(step, [target.host], parts, self._role, {})[target.host].problem
            begun = self._reached == parts[-1].called
        except TidegateError as error:  # what ends it when it is under way says nothing of how far it got
            problem, begun = str(error), not isinstance(error, NotBegunError)
        self._journal.end_data(self._run, problem, begun, utc_now())
        return problem

    def _log(self) -> Path:
        return log_of(self._deployment.label, None)
