"""The demo notebooks as they are stored: true about where they come from, and clean.

That each of them replays to the same outputs is for `o3magic check`, which `.ci/run` runs.
"""

import json
import re
from pathlib import Path

import nbformat
import pytest

from o3magic.cassettes.cassette import Cassette
from o3magic.cassettes.record_mode import get_cassette_path
from o3magic.cli.check import IGNORED, SKIPPED
from o3magic.events import LABELS

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
ASKS = re.compile(r"^%{1,2}o3 ", re.MULTILINE)
MAPS = re.compile(r"\bo3\.(map|sweep)\(|\bjob\.wait\(|^%{1,2}o3 .*--map ", re.MULTILINE)
SECRETS = re.compile(r"sk-[A-Za-z0-9]{8}|Bearer |api-key|AccountKey=")
PATHS = re.compile(r"/(?:home|Users|root|tmp|work)/|C:\\\\")

pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def shown(output):
    """All words of an output."""
    if output.output_type == "stream":
        return output.text
    if output.output_type == "error":
        return "\n".join([output.ename, output.evalue, *output.traceback])
    data = output.data.values()
    return "\n".join(each if isinstance(each, str) else json.dumps(each) for each in data)


def is_live(path):
    """Whether a notebook asks a model each time, so that nothing of it can be stored."""
    return all(SKIPPED in cell.metadata.get("tags", []) for cell in code_cells(path))


def takes(path):
    return Cassette(get_cassette_path(path, {})).entries


def test_the_first_cell_says_where_the_answers_come_from_and_how_to_get_others(path):
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    said = {take.label for take in takes(path)}
    if is_live(path):
        assert "None is stored here" in first.source
        assert not any(cell.outputs for cell in code_cells(path))
        return
    if not said:
        assert "Nothing here was answered, and nothing was sent." in first.source
        return
    assert said <= {"hand", "simulated"}, "recorded from a model by now: change what is said here"
    assert "No model was asked" in first.source
    assert ("a person wrote them" in first.source) == ("hand" in said)
    assert ("simulator made" in first.source) == ("simulated" in said)
    assert f"o3magic run --mode refresh {path.name}" in first.source
    assert f"o3magic cassettes accept --drop {get_cassette_path(path, {}).name}" in first.source


def links(cell):
    """The places on the cassette of the answers that a cell shows."""
    found = [output.get("metadata", {}).get("o3magic", []) for output in cell.outputs]
    each = [link for links in found for link in (links if isinstance(links, list) else [links])]
    return {(link["key"], link["n"]) for link in each}


def test_every_answer_is_from_the_cassette_and_labelled(path):
    labels = {take.place: LABELS[take.label] for take in takes(path)}
    for cell in code_cells(path):
        words = "\n".join(map(shown, cell.outputs))
        for place in links(cell):
            label = labels[place]
            assert label in words or f"({label.partition(',')[0]})" in words
        asks = ASKS.match(cell.source) and "--dry-run" not in cell.source
        failed = any(output.output_type == "error" for output in cell.outputs)
        assert not asks or failed or links(cell) or is_live(path)


def test_rows_that_no_model_answered_are_labelled(path):
    """They have no place of their own on the page: the line of their job says it for all."""
    words = {LABELS[take.label].partition(",")[0] for take in takes(path)}
    for cell in code_cells(path):
        maps = MAPS.search(cell.source)
        failed = any(output.output_type == "error" for output in cell.outputs)
        if maps and not failed and not is_live(path):
            assert any(word in "\n".join(map(shown, cell.outputs)) for word in words)


def test_nothing_is_stored_that_belongs_to_one_machine_or_one_session(path):
    for file in (path, get_cassette_path(path, {})):
        text = file.read_text("utf-8") if file.exists() else ""
        assert not SECRETS.search(text)
        assert not PATHS.search(text)
    notebook = read(path)
    assert notebook.metadata.language_info == {"name": "python"}
    assert "widgets" not in notebook.metadata
    for number, cell in enumerate(notebook.cells, 1):
        assert re.fullmatch(r"[a-z]+-\d\d", cell.id)
        assert cell.id.endswith(f"-{number:02}")
        assert "execution" not in cell.metadata
        if cell.cell_type == "code" and IGNORED in cell.metadata.get("tags", []):
            assert "o3_cost" not in cell.source or not cell.outputs
            assert "o3.costs" not in cell.source or not cell.outputs


def test_errors_are_meant(path):
    for cell in code_cells(path):
        failed = any(output.output_type == "error" for output in cell.outputs)
        assert not failed or "raises-exception" in cell.metadata.get("tags", [])


def test_simulated_answers_are_as_they_were_recorded(path):
    for take in takes(path):
        assert not take.edited
        if take.source == "hand":
            assert take.usage is None
            assert not take.total_ms
