"""A session that asks the simulator."""

from tests.session.conftest import session

__all__ = ["session"]
