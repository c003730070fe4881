# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The library: how fast releases go in and are looked through, against sha256sum on the same bytes."""

from __future__ import annotations

import hashlib
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
    from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import read_release
    from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.scrub import scrub

    folder = Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    try:
        home = OciLayout.create(folder / "dsl")
        read_release(_release(folder)).archive(home)
        shutil.rmtree(folder / "release")
        floor = _sums(folder / "dsl" / "blobs")
        return Finding(best(lambda: scrub(home, None, write=False)), ("sha256sum", floor), details={"bytes": _SIZE})
    finally:
        shutil.rmtree(folder)


def scrub_small() -> Finding:
    """Check every byte of a library of small blobs, as many packages with much documentation and evidence make it."""
    from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
    from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.scrub import scrub

    folder = Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    try:
        home = OciLayout.create(folder / "dsl")
        source = random.Random(4)  # noqa: S311 - only has to be incompressible
        for _number in range(_FILES):
            content = source.randbytes(64 << 10)
            (folder / "dsl" / "blobs" / "sha256" / hashlib.sha256(content).hexdigest()).write_bytes(content)
        floor = _sums(folder / "dsl" / "blobs")
        return Finding(best(lambda: scrub(home, None, write=False)), ("sha256sum", floor), details={"bytes": _FILES * (64 << 10)})
    finally:
        shutil.rmtree(folder)


def sync() -> Finding:
    """Copy half a GiB to a second home, against cp."""
    from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
    from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import read_release
    from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.replica import choose, replicate

    folder = Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    try:
        home = OciLayout.create(folder / "dsl")
        read_release(_release(folder)).archive(home)
        shutil.rmtree(folder / "release")

        def plain() -> None:
            shutil.rmtree(folder / "plain", ignore_errors=True)
            subprocess.run(["cp", "-r", str(folder / "dsl"), str(folder / "plain")], check=True)
            subprocess.run(["sync", "-f", str(folder / "plain")], check=True)

        def work() -> None:
            shutil.rmtree(folder / "replica", ignore_errors=True)
            replicate(home, OciLayout.create(folder / "replica"), choose(home, None), lambda _name, _version, _digest: "", write=True)

        return Finding(best(work), ("cp and sync", best(plain)), details={"bytes": _SIZE})
    finally:
        shutil.rmtree(folder)
