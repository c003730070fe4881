# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The library: how fast releases go in and are looked through, against sha256sum on the same bytes."""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
from pathlib import Path

from measure import Finding, best

_SIZE = 512 << 20
_FILES = 2000


def _release(folder: Path) -> Path:
    """Half a GiB: one large file, and many of the sizes that software has."""
    payload = folder / "release" / "payload"
    payload.mkdir(parents=True)
    source = random.Random(3)  # noqa: S311 - only has to be incompressible
    with (payload / "large").open("wb") as stream:
        for _block in range(_SIZE // 2 >> 20):
            stream.write(source.randbytes(1 << 20))
    for number in range(_FILES):
        (payload / f"{number}").write_bytes(source.randbytes(_SIZE // 2 // _FILES))
    (folder / "release" / "README.md").write_text("# Big\n")
    (folder / "release" / "release.yml").write_text(
        "{schema: 1, name: big, version: '1', type: minor, summary: Big, payload: payload, documentation: [README.md],"
        " health: [{name: there, command: ['true'], timeout: 1}]}\n"
    )
    return folder / "release"


def _sums(folder: Path) -> float:
    files = [str(path) for path in folder.rglob("*") if path.is_file()]
    return best(lambda: subprocess.run(["sha256sum", *files], check=True, capture_output=True))


def archive() -> Finding:
    """Archive half a GiB into a new library."""
    from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
    from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import read_release

    folder = Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    try:
        release = _release(folder)
        floor = _sums(release / "payload")

        def work() -> None:
            shutil.rmtree(folder / "dsl", ignore_errors=True)
            read_release(release).archive(OciLayout.create(folder / "dsl"))

        return Finding(best(work), ("sha256sum", floor), details={"bytes": _SIZE})
    finally:
        shutil.rmtree(folder)


def scrub() -> Finding:
    """Check every byte of the library."""
    from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
    from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import read_release, verify_package

    folder = Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    try:
        home = OciLayout.create(folder / "dsl")
        digest = read_release(_release(folder)).archive(home).digest
        floor = _sums(folder / "dsl" / "blobs")
        return Finding(best(lambda: verify_package(home, digest)), ("sha256sum", floor), details={"bytes": _SIZE})
    finally:
        shutil.rmtree(folder)
