"""An answer that is stopped, hidden or left alone: what has arrived stays."""

import pytest

from o3magic.simulator import Reply

APPS = ["lab", "notebook"]
LOAD = "%load_ext o3magic"
MANY = " ".join(f"word{n}" for n in range(2000))
SLOW = Reply(text=MANY, pause_s=0.05)
SOON_S = 2.0  # on a quiet machine it takes 0.1 to 0.4 s, the click included


@pytest.mark.parametrize("app", APPS)
def test_stopped_before_the_first_word(app, open_notebook, api):
    api.script(Reply(wait_s=30.0))
    notebook = open_notebook(LOAD, "%%o3\nHi", "print('still', 'here')", app=app)
    notebook.run(0)
    notebook.start(1)
    notebook.holds(1, "is thinking")
    assert notebook.stopped_s(1) < SOON_S
    said = notebook.output(1).inner_text().strip()
    assert "interrupted before anything arrived" in said
    assert "nothing had arrived; its cost is unknown" in said
    assert "Traceback" not in said
    assert len(said.split("\n")) <= 5, said
    notebook.run(2)
    notebook.holds(2, "still here")


@pytest.mark.parametrize("app", APPS)
def test_stopped_in_the_middle(app, open_notebook, api):
    api.script(SLOW)
    notebook = open_notebook(LOAD, "%%o3 -o kept\nHi", "print(kept.finish_reason)", app=app)
    notebook.run(0)
    notebook.start(1)
    notebook.holds(1, "word12")
    assert notebook.stopped_s(1) < SOON_S
    notebook.holds(1, "interrupted; this is what had arrived")
    said = notebook.output(1).inner_text()
    assert "word0 word1 word2" in said
    assert "what had arrived is kept in kept; it cost nothing" in said
    assert "Traceback" not in said
    notebook.run(2)
    notebook.holds(2, "interrupted")


def test_the_output_is_cleared_by_the_reader_in_mid_stream(open_notebook, api):
    api.script(Reply(text=MANY[:2000], pause_s=0.02))
    notebook = open_notebook(LOAD, "%%o3 -o kept\nHi", "print(len(kept.text))")
    notebook.run(0)
    notebook.start(1)
    notebook.holds(1, "word20")
    notebook.command("notebook:clear-cell-output")
    notebook.ended(1)
    notebook.run(2)
    notebook.holds(2, "2000")
    assert "Error" not in notebook.output(1).inner_text()


def test_the_output_is_cleared_by_a_thread_in_mid_stream(open_notebook, api):
    api.script(Reply(text=MANY[:2000], pause_s=0.02))
    clear = "from IPython.display import clear_output\nimport threading\n"
    clear += "threading.Timer(1.5, clear_output).start()"
    notebook = open_notebook(LOAD, clear, "%%o3 -o kept\nHi", "print(len(kept.text))")
    for index in range(4):
        notebook.run(index)
    notebook.holds(3, "2000")
    assert "Error" not in notebook.output(2).inner_text()


def test_an_answer_can_be_captured(open_notebook, api):
    api.script(Reply(text="Said **once**."))
    cell = "%%capture held\nanswer = get_ipython().run_cell_magic('o3', '', 'Hi')"
    notebook = open_notebook(LOAD, cell, "held.show(); print(answer.text)", "%%o3\nAgain")
    for index in range(4):
        notebook.run(index)
    assert notebook.output(1).inner_text().strip() == ""
    notebook.holds(2, "Said **once**.")
    assert notebook.output(2).locator("strong", has_text="once").count() == 1
    notebook.holds(3, "SIMULATED")


def test_the_tab_is_closed_in_mid_stream(open_notebook, api):
    api.script(Reply(text=MANY[:4000], pause_s=0.01))
    notebook = open_notebook(LOAD, "%%o3 -o kept\nHi", "print(len(kept.text), kept.finish_reason)")
    notebook.run(0)
    notebook.start(1)
    notebook.holds(1, "word20")
    notebook.page.close()
    again = open_notebook(name=notebook.name)
    again.run(2)
    again.holds(2, "4000 stop")
