"""The ledger, and the clock it goes by, of the tests of costs."""

from tests.cost.conftest import clock, ledger, path

__all__ = ["clock", "ledger", "path"]
