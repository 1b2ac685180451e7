"""A small OpenAI-compatible server on loopback that says of everything it answers: simulated.

It shares no code with the client, so that a mistake in the client's idea of the protocol
cannot agree with itself. The standard library is all it needs.
"""

from o3magic.simulator.batch_lines import BatchScript
from o3magic.simulator.reply import Call, Reply
from o3magic.simulator.server import Simulator
from o3magic.simulator.state import Received

__all__ = ["BatchScript", "Call", "Received", "Reply", "Simulator"]
