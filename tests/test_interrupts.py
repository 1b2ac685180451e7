"""Ctrl-C while something is asked: it stops, and raises only where that takes too long."""

import os
import signal
import threading
import time

import pytest

from o3magic import interrupts
from o3magic.errors import Interrupted
from o3magic.interrupts import interruptible, raise_interrupted, stop_on_interrupt


def ctrl_c(times=1):
    """Send it, a tenth of a second apart, and wait for the effect of the last."""
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)


def test_it_stops_and_raises_nothing():
    stopped, before = threading.Event(), signal.getsignal(signal.SIGINT)
    with stop_on_interrupt(stopped.set):
        ctrl_c(times=2)  # two quick ones are one
        assert stopped.wait(2)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_one_raises_where_the_first_had_no_effect(monkeypatch):
    monkeypatch.setattr(interrupts, "PATIENCE_S", 0.05)
    with pytest.raises(KeyboardInterrupt), stop_on_interrupt(lambda: None):
        ctrl_c(times=2)


def test_where_the_user_is_asked_it_raises_as_ever():
    stopped = threading.Event()
    with pytest.raises(KeyboardInterrupt), stop_on_interrupt(stopped.set), interruptible():
        ctrl_c()
    assert not stopped.is_set()


def test_without_threads_it_raises_as_ever(monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt), stop_on_interrupt(lambda: None):
        ctrl_c()


def test_in_another_thread_nothing_changes():
    before, seen = signal.getsignal(signal.SIGINT), []

    def run():
        with stop_on_interrupt(lambda: None), interruptible():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


def test_one_that_was_raised_is_one_line():
    with pytest.raises(Interrupted, match="stopped by you"), raise_interrupted():
        raise KeyboardInterrupt
