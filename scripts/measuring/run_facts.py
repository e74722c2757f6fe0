"""The facts of a run's machines, of the network between them, and of this checkout."""

from collections.abc import Sequence
from typing import Any

from hosts.facts import CHECKOUT, facts_of_sweep, read_facts
from measuring import runs


def read(
    both: runs.Sides[Any, Any], checkout: str, compiler: str, flags: Sequence[str]
) -> dict[str, Any]:
    """Read the facts, as hosts.facts.read_facts(). Raises OSError if a side is lost."""
    return read_facts(
        checkout,
        compiler,
        flags,
        both.server.host_facts(),
        both.load.host_facts() if both.apart else None,
        _way(both),
    )


def _way(both: runs.Sides[Any, Any]) -> dict[str, Any] | None:
    net = both.network
    return None if net.is_loopback else dict(both.server.interface_facts(net.interface))


def of_sweep(both: runs.Sides[Any, Any]) -> dict[str, Any]:
    """The facts written when the sweep began, if its machines are the same; else, as in a run by hand, current ones."""
    facts = facts_of_sweep([both.server.boot(), both.load.boot()], _way(both))
    # In a run by hand, the tools that built the binary are not known.
    return facts or {**read(both, CHECKOUT, "gcc", []), "build": None}
