"""`o3magic lite` without building: what it refuses, what it takes, and the wheels it makes."""

import json
import shutil
import sys
import tarfile
import zipfile

import pytest

from o3magic.cli import lite
from o3magic.cli.main import main
from o3magic.errors import O3Error

SITE = lite.Path("no-such-site")
NOTEBOOK = {
    "cells": [{"cell_type": "code", "source": ["%%o3\n", "Why?"], "outputs": [], "metadata": {}}],
    "metadata": {},
    "nbformat": 4,
    "nbformat_minor": 5,
}


@pytest.fixture
def folder(tmp_path):
    """A notebook with its cassette, data, and what nobody wants."""
    (tmp_path / "in" / "data").mkdir(parents=True)
    (tmp_path / "in" / ".ipynb_checkpoints").mkdir()
    for name in ("a.ipynb", "data/b.ipynb", ".ipynb_checkpoints/a.ipynb"):
        (tmp_path / "in" / name).write_text(json.dumps(NOTEBOOK), "utf-8")
    for name in ("a.o3.json", "data/b.csv"):
        (tmp_path / "in" / name).write_text("{}", "utf-8")
    return tmp_path / "in"


def test_what_is_missing_is_named_with_how_to_get_it(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(lite, "PARTS", {"no_such_module_here": "jupyterlite-core"})
    assert main(["lite", str(tmp_path / "site")]) == 1
    said = capsys.readouterr().err
    assert "jupyterlite-core is not installed" in said
    assert 'pip install "o3magic[lite]"' in said


def test_without_npm_the_way_around_it_is_said(monkeypatch):
    monkeypatch.setattr(lite, "PARTS", {})
    monkeypatch.setattr(lite, "labextension", lambda name: lite.Path("."))
    monkeypatch.setattr(lite, "pyodide_version", lambda: "1.2.3")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(O3Error, match="npm is not installed") as caught:
        lite.check_parts("")
    assert "npm pack pyodide@1.2.3" in caught.value.hint
    with pytest.raises(O3Error, match="there is no file here"):
        lite.check_parts("here")


def test_nothing_but_an_older_site_is_replaced(tmp_path):
    lite.check_output(tmp_path / "new")
    (tmp_path / "mine.txt").write_text("mine", "utf-8")
    with pytest.raises(O3Error, match="has other things in it"):
        lite.check_output(tmp_path)
    with pytest.raises(O3Error, match="is a file"):
        lite.check_output(tmp_path / "mine.txt")
    (tmp_path / lite.MARK).write_text("{}", "utf-8")
    lite.check_output(tmp_path)


def test_an_older_site_goes_when_the_new_one_is_there(tmp_path):
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.txt").write_text(name, "utf-8")
    lite.put(tmp_path / "new", tmp_path / "old")
    assert [each.name for each in (tmp_path / "old").iterdir()] == ["new.txt"]
    assert not (tmp_path / "new").exists()


def test_a_notebook_goes_with_its_cassette_a_folder_with_all_that_is_in_it(folder):
    assert [each.name for each in lite.found([str(folder / "a.ipynb")], SITE)] == [
        "a.ipynb",
        "a.o3.json",
    ]
    names = {each.name for each in lite.found([str(folder)], SITE)}
    assert names == {"a.ipynb", "a.o3.json", "data/b.ipynb", "data/b.csv"}
    assert {each.name for each in lite.found([str(folder)], folder / "data")} == {
        "a.ipynb",
        "a.o3.json",
    }
    with pytest.raises(O3Error, match="is not there"):
        lite.found([str(folder / "none.ipynb")], SITE)
    with pytest.raises(O3Error, match="is no notebook"):
        lite.found([str(folder / "a.o3.json")], SITE)


def test_two_files_of_one_name_are_refused(folder):
    (folder / "data" / "a.ipynb").write_text("{}", "utf-8")
    with pytest.raises(O3Error, match=r"two files would be a\.ipynb"):
        lite.found([str(folder / "a.ipynb"), str(folder / "data" / "a.ipynb")], SITE)


def test_a_notebook_is_for_the_pages_kernel_and_its_texts_are_whole(folder):
    made = json.loads(lite.for_page(folder / "a.ipynb"))
    assert made["cells"][0]["source"] == "%%o3\nWhy?"
    assert made["metadata"]["kernelspec"]["name"] == "python"
    (folder / "a.ipynb").write_text("[]", "utf-8")
    with pytest.raises(O3Error, match="is not a notebook"):
        lite.for_page(folder / "a.ipynb")


def test_a_file_that_is_not_pyodide_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(lite, "pyodide_version", lambda: "1.2.3")
    archive = tmp_path / "pyodide.tgz"
    for write in (lambda: archive.write_bytes(b"no"), lambda: tarfile.open(archive, "w").close()):
        write()
        with pytest.raises(O3Error, match="is not a package of Pyodide"):
            lite.unpacked(str(archive), tmp_path)


def test_our_own_wheel_is_the_package_and_always_the_same_bytes(tmp_path):
    first = lite.own(tmp_path).read_bytes()
    wheel = lite.own(tmp_path)
    assert wheel.read_bytes() == first
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"o3magic/__init__.py", "o3magic/models.toml", "o3magic/notebook/extension.py"} <= names
    assert not [name for name in names if "__pycache__" in name or "labextension" in name]
    assert lite.imports(wheel) == ["o3magic"]


def test_a_wheel_without_its_compiled_modules_is_for_any_python(tmp_path):
    compiled = tmp_path / "fast-1.0-cp311-cp311-linux_x86_64.whl"
    (tmp_path / "out").mkdir()
    with zipfile.ZipFile(compiled, "w") as archive:
        archive.writestr("fast/__init__.py", "")
        archive.writestr("fast/_speedups.so", b"\x7fELF")
        archive.writestr("fast-1.0.dist-info/METADATA", "Name: fast\nVersion: 1.0\n")
        archive.writestr("fast-1.0.dist-info/WHEEL", "Tag: cp311-cp311-linux_x86_64\n")
        archive.writestr("fast-1.0.dist-info/RECORD", "")
    made = lite.pure(compiled, tmp_path / "out")
    assert made.name == "fast-1.0-py3-none-any.whl"
    with zipfile.ZipFile(made) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".so")]
        assert b"py3-none-any" in archive.read("fast-1.0.dist-info/WHEEL")


def test_the_list_holds_what_each_wheel_needs_there_and_refuses_what_does_not_fit(tmp_path):
    python = lite.PyodidePython("3.14.2", "2026_0")
    needs = 'Requires-Dist: b>=2\nRequires-Dist: c; sys_platform != "emscripten"\n'
    for name, version, more in (("a", "1", needs), ("b", "2", ""), ("c", "1", "")):
        said = f"Name: {name}\nVersion: {version}\n{more}"
        inside = {f"{name}.py": b"", f"{name}-{version}.dist-info/METADATA": said.encode()}
        lite.write(tmp_path, name, version, inside)
    packages = lite.lock(tmp_path, python)
    assert packages["a"]["depends"] == ["b"]
    assert packages["a"]["imports"] == ["a"]
    (tmp_path / "b-2-py3-none-any.whl").unlink()
    inside = {"b-1.dist-info/METADATA": b"Name: b\nVersion: 1\n"}
    lite.write(tmp_path, "b", "1", inside)
    with pytest.raises(O3Error, match="a needs b>=2, but 1 was fetched"):
        lite.lock(tmp_path, python)


def test_a_program_that_fails_is_quoted_without_whoever_a_registry_knows(tmp_path):
    code = "import sys; sys.exit('ERROR: no https://me:secret@registry.invalid/simple here')"
    with pytest.raises(O3Error) as caught:
        lite.finished([sys.executable, "-c", code], tmp_path, "it failed", hint="again")
    assert str(caught.value) == "it failed: ERROR: no https://registry.invalid/simple here"
    with pytest.raises(O3Error, match="it failed: No such file"):
        lite.finished([str(tmp_path / "none")], tmp_path, "it failed", hint="again")
