# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs on the controller: the domain, and what the plugins share.

ansible-core compiles the Python of collections anew in each run; only of plugins it keeps, as Python itself does, what was compiled.
For a deployment that is a tenth of all that it takes when there is nothing to do, so these modules are found as Python finds others.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from types import ModuleType

_PACKAGES = (f"{__name__}.", f"{__name__.rpartition('.')[0]}.module_utils.")


@functools.cache
def _folder(path: str) -> FileFinder:
    return FileFinder(path, (SourceFileLoader, SOURCE_SUFFIXES))


class _Finder:
    """Finds the modules of this collection that are not plugins, before ansible-core does."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(_PACKAGES):
            return None
        return next((spec for folder in path or () if (spec := _folder(folder).find_spec(name))), None)


# Where ansible-core's own finder is not, Python's finds them without this one.
_place = next((place for place, finder in enumerate(sys.meta_path) if type(finder).__name__ == "_AnsibleCollectionFinder"), None)
if _place is not None:
    sys.meta_path.insert(_place, _Finder)
