"""The facts of a run's machines, of the way between them, and of this checkout."""

from collections.abc import Sequence
from typing import Any

import machine_facts
import runs


def read(
    found: runs.Sides[Any, Any], checkout: str, compiler: str, flags: Sequence[str]
) -> dict[str, Any]:
    """As machine_facts.read_facts. Raises OSError if a side is lost."""
    return machine_facts.read_facts(
        checkout,
        compiler,
        flags,
        found.server.host_facts(),
        found.load.host_facts() if found.apart else None,
        _way(found),
    )


def _way(found: runs.Sides[Any, Any]) -> dict[str, Any] | None:
    net = found.network
    return None if net.is_loopback else dict(found.server.interface_facts(net.interface))


def of_sweep(found: runs.Sides[Any, Any]) -> dict[str, Any]:
    """The facts written when the sweep began, if these are still its machines; else, as by hand, those of now."""
    facts = machine_facts.facts_of_sweep([found.server.boot(), found.load.boot()], _way(found))
    # By hand it is not known with what the binary was built.
    return facts or {**read(found, machine_facts.CHECKOUT, "gcc", []), "build": None}
