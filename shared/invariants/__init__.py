"""What must hold of any log at every prefix, whatever died while it was written.

`Invariants` is fed the log in order and collects violations as sentences. The simulation, the chaos runs and anybody with an
export of the log use the same code; it knows nothing of the services, only of events.
"""

from shared.invariants.credits import Limits
from shared.invariants.log import Invariants
from shared.invariants.personas import BEHIND_THE_SEAL

__all__ = ["BEHIND_THE_SEAL", "Invariants", "Limits"]
