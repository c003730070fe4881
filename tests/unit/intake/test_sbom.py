# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import bz2
import hashlib
import io
import json
import lzma
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package_files import METADATA_LIMIT
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.payload import FileEntry
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence import store
from ansible_collections.tidegate.release.plugins.plugin_utils.intake import sbom
from ansible_collections.tidegate.release.plugins.plugin_utils.intake.sbom import Found, brought, check, find, make
from hypothesis import given, settings
from hypothesis import strategies as st
from packed import DIGEST, ar, deb, payload, rpm

TREE = {
    "bin/start": "#!/bin/sh\n",
    "lib/requests/__init__.py": "",
    "lib/requests-2.32.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: requests\nVersion: 2.32.0\nLicense: Apache-2.0\n\ntext\n",
    "lib/requests-2.32.0.dist-info/RECORD": "requests/__init__.py,sha256=x,0\n",
    "web/node_modules/@vue/core/package.json": '{"name": "@vue/core", "version": "3.4.0", "license": "MIT"}',
    "web/node_modules/@vue/core/index.js": "",
    "pkg/hello_1.0_all.deb": deb("Package: hello\nVersion: 1.0\n"),
}


def test_packages_are_found_and_what_belongs_to_them_is_not_listed_twice() -> None:
    entries, blobs = payload(**TREE)
    found = find(entries, blobs.open)
    assert {(part.kind, part.namespace, part.name, part.version, part.licence) for part in found} == {
        ("pypi", None, "requests", "2.32.0", "Apache-2.0"),
        ("npm", "@vue", "core", "3.4.0", "MIT"),
        ("deb", "debian", "hello", "1.0", None),
        ("generic", None, "bin/start", "", None),
    }


def test_a_python_package_has_the_scripts_and_odd_names_that_it_records() -> None:
    record = '../../../bin/tool,sha256=x,0\n"tool/a,b.py",,\ntool/c.py,,\n'
    folder = "lib/python3/site-packages"
    files = {f"{folder}/tool-1.0.dist-info/METADATA": "Name: tool\nVersion: 1.0\n", f"{folder}/tool-1.0.dist-info/RECORD": record}
    entries, blobs = payload(**files, **{"bin/tool": "", f"{folder}/tool/a,b.py": "", f"{folder}/tool/c.py": "", "bin/other": ""})
    assert [(part.kind, part.name) for part in find(entries, blobs.open)] == [("pypi", "tool"), ("generic", "bin/other")]


@pytest.mark.parametrize(
    ("said", "licence"),
    [
        ('"license": {"type": "MIT", "url": "x"}', "MIT"),
        ('"licenses": [{"type": "MIT"}, {"type": "Apache-2.0"}]', "MIT OR Apache-2.0"),
        ('"license": "(MIT OR ISC)"', "MIT OR ISC"),
        ('"licenses": [{"type": "MIT"}, {"type": "see the file"}]', None),
        ('"licenses": [{"url": "x"}, 1]', None),
        ('"licenses": []', None),
        ('"license": "SEE LICENSE IN LICENSE"', None),
    ],
)
def test_the_licence_of_an_old_package_of_npm_is_read(said: str, licence: str | None) -> None:
    entries, blobs = payload(**{"node_modules/old/package.json": f'{{"name": "old", "version": "1.0.0", {said}}}'})
    assert [(part.name, part.licence) for part in find(entries, blobs.open)] == [("old", licence)]


def test_what_is_made_is_valid_cyclonedx_and_the_same_each_time() -> None:
    entries, blobs = payload(**TREE)
    first = make("web", "1.0", DIGEST, entries, blobs.open)
    assert first == make("web", "1.0", DIGEST, list(reversed(entries)), blobs.open)
    document = check(first, "made")
    assert document["metadata"]["component"]["name"] == "web"
    assert {part.get("purl") for part in document["components"]} == {
        "pkg:pypi/requests@2.32.0",
        "pkg:npm/%40vue/core@3.4.0",
        "pkg:deb/debian/hello@1.0",
        None,
    }
    assert make("web", "1.0", "sha256:" + "2" * 64, entries, blobs.open) != first


@pytest.mark.parametrize(("path", "taken"), [("bom.json", True), ("sbom/web.cdx.json", True), ("a/b/bom.json", False), ("bom.xml", False)])
def test_the_sbom_that_a_payload_brings_is_found_on_top(path: str, taken: bool) -> None:
    assert brought(payload(**{path: "{}", "other": ""})[0]) == (path if taken else None)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b"{}",
        b'{"specVersion": "9"}',
        b'{"specVersion": "1.6"}',
        b'{"bomFormat": "CycloneDX", "specVersion": "1.6", "version": "x"}',
    ],
)
def test_what_is_no_sbom_is_refused_in_a_sentence(content: bytes) -> None:
    with pytest.raises(TidegateError, match=r"bom\.json .*correct it"):
        check(content, "bom.json")


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("a-1.dist-info/METADATA", b"\xff\xfe"),
        ("node_modules/a/package.json", b"[" * 100_000),
        ("node_modules/a/package.json", b'{"name": 1}'),
        ("a.deb", b"!<arch>\n" + b"x" * 60),
        ("a.deb", deb("Package: hello\n")),
        ("a.deb", b"!<arch>\n" + f"{'control.tar.xz':<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{4:<10}`\n".encode() + b"oops"),
    ],
)
def test_what_only_looks_like_a_package_is_a_plain_file(path: str, content: bytes) -> None:
    entries, blobs = payload(**{path: content})
    sha = hashlib.sha256(content).hexdigest()
    assert find(entries, blobs.open) == [Found("generic", path, "", path=path, sha256=sha)]


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(["a-1.dist-info/METADATA", "node_modules/a/package.json", "a.deb"]), st.binary(max_size=200))
def test_no_content_breaks_it(path: str, content: bytes) -> None:
    entries, blobs = payload(**{path: content})
    assert json.loads(make("web", "1", DIGEST, entries, blobs.open))["bomFormat"] == "CycloneDX"


def _header(name: str, size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


HUGE = 64 << 20  # bytes


@pytest.mark.parametrize("compression", ["gz", "xz", "bz2 as none"])
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.REGTYPE], ids=["pax header", "long name", "file"])
def test_a_package_that_inflates_without_end_is_a_plain_file_and_fills_no_memory(compression: str, kind: bytes) -> None:
    packer = {"gz": zlib.compressobj(1, wbits=31), "xz": lzma.LZMACompressor(preset=0), "bz2 as none": bz2.BZ2Compressor(1)}[compression]
    packed = packer.compress(_header("./huge", HUGE, kind))
    for _block in range(HUGE >> 20):
        packed += packer.compress(bytes(1 << 20))
    packed += packer.compress(_header("./control", 0, tarfile.REGTYPE)) + packer.flush()
    name = "control.tar" if compression == "bz2 as none" else f"control.tar.{compression}"
    entries, blobs = payload(**{"a.deb": ar(("debian-binary", b"2.0\n"), (name, packed))})
    tracemalloc.start()
    try:
        found = find(entries, blobs.open)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [part.kind for part in found] == ["generic"]
    assert peak < 24 << 20


def test_a_package_that_wants_all_memory_to_be_unpacked_is_a_plain_file() -> None:
    for size, kind in ((1 << 26, "deb"), (1 << 30, "generic")):
        control = lzma.decompress(_control(deb("Package: hello\nVersion: 1.0\n")))
        packed = lzma.compress(control, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": size}])
        assert find(*_read_from({"a.deb": ar(("control.tar.xz", packed))}))[0].kind == kind


@pytest.mark.parametrize("compression", ["gz", "xz", ""])
def test_packages_are_read_however_they_are_packed(compression: str) -> None:
    found = find(*_read_from({"a.deb": deb("Package: hello\nVersion: 1.0\n", compression)}))
    assert [(part.kind, part.name) for part in found] == [("deb", "hello")]


def test_what_is_too_large_to_be_read_whole_is_not() -> None:
    large = "x" * METADATA_LIMIT
    tree = {**TREE, "web/node_modules/@vue/core/package.json": json.dumps({"name": "core", "version": "1", "more": large})}
    tree["lib/requests-2.32.0.dist-info/METADATA"] = f"{TREE['lib/requests-2.32.0.dist-info/METADATA']}{large}"
    entries, blobs = payload(**tree)
    huge = [replace(entry, size=1 << 40) if entry.path.endswith("RECORD") else entry for entry in entries]
    assert {part.name for part in find(huge, blobs.open) if part.kind != "generic"} == {"requests", "hello"}


def _control(package: bytes) -> bytes:
    return package[package.index(b"\xfd7zXZ") :].rstrip(b"\n")


def _read_from(contents: dict[str, bytes]) -> tuple[list[FileEntry], Callable[[str], io.BytesIO]]:
    entries, blobs = payload(**contents)
    return entries, blobs.open


def test_a_hundred_thousand_plain_files_are_nothing_that_is_compared_each_with_each(monkeypatch: pytest.MonkeyPatch) -> None:
    entries, blobs = payload(**TREE)
    made = []
    component = sbom.Component
    monkeypatch.setattr(sbom, "Component", lambda **about: made.append(about["name"]) or component(**about))
    files = [replace(entries[0], path=f"plain/{number:03}") for number in range(300)]
    document = check(make("web", "1.0", DIGEST, [*entries, *files], blobs.open), "made")
    assert len(document["components"]) > 300
    assert sorted(made) == ["core", "hello", "requests", "web"]


def test_a_long_sbom_is_looked_at_bit_by_bit_and_what_is_there_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [{"type": "library", "name": f"n{number}"} for number in range(501)]
    longest = []
    validate = sbom.JsonStrictValidator.validate_str

    def watched(self: object, data: str) -> object:
        longest.append(max(len(value) for value in json.loads(data).values() if isinstance(value, list | str)))
        return validate(self, data)

    monkeypatch.setattr(sbom.JsonStrictValidator, "validate_str", watched)

    def bom(components: list[dict[str, str]]) -> bytes:
        return json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": components}).encode()

    assert [part["name"] for part in check(bom(parts), "bom.json")["components"]] == [part["name"] for part in parts]
    assert max(longest) <= 60
    for number in (0, 49, 50, 51, 250, 500):
        with pytest.raises(TidegateError, match="not valid"):
            check(bom([*parts, sorted(parts, key=lambda part: part["name"])[number]]), "bom.json")
    with pytest.raises(TidegateError, match="not valid"):
        check(bom([*parts, {"type": "no such", "name": "x"}]), "bom.json")


def test_an_sbom_that_comes_to_too_much_is_said_before_anything_is_archived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sbom, "LIMIT", 1 << 20)
    entries, blobs = payload(a=b"")
    files = [replace(entries[0], path=f"{number:0200}") for number in range(5000)]
    with pytest.raises(TidegateError, match="comes to more than 1 MiB; bring one with the payload"):
        make("web", "1.0", DIGEST, files, blobs.open)


def test_the_largest_sbom_that_is_taken_fits_into_an_envelope() -> None:
    assert store.ENVELOPE_LIMIT > sbom.LIMIT * 4 / 3 + (1 << 20)


def test_packages_of_rpm_are_components() -> None:
    words = {"name": "tg-app", "version": "1.0", "release": "2.el9", "architecture": "x86_64"}
    files, blobs = payload(**{"a.rpm": rpm(**words, licence="MIT"), "b.rpm": b"no package"})
    found = {one.path: one for one in find(files, blobs.open)}
    assert found["a.rpm"] == Found("rpm", "tg-app", "1.0-2.el9", "MIT", "a.rpm", files[0].sha256 or "", None, "x86_64")
    assert found["b.rpm"].kind == "generic"
    made = json.loads(make("hello", "1.0", DIGEST, files, blobs.open))
    assert "pkg:rpm/tg-app@1.0-2.el9?arch=x86_64" in {one.get("purl") for one in made["components"]}
