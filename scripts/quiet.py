"""The machines of a sweep, made quiet as `isolate` of the config says until it ends (M14)."""

import contextlib

import isolate
import sides
from cpus import CpuSplit
from preflight import Sides


def restored() -> list[str]:
    """What a killed sweep had set is put back; or why it is not."""
    try:
        return isolate.Isolation().restore()
    except isolate.IsolationFault as fault:
        return [str(fault)]


class Quiet:
    """Each machine of a sweep as `isolate` of the config says, until the end of this process at the latest."""

    def __init__(self, found: Sides, split: CpuSplit, settings: isolate.Settings) -> None:
        """Raises IsolationFault or SideLost."""
        self.notes: list[str] = []
        self._here: isolate.Holder | None = None
        self._there = contextlib.ExitStack()
        self._isolations: list[isolate.Isolation] = []
        if isolate.asks_for_nothing(settings):
            if isolate.has_leftovers():
                self.notes = restored()
            return
        net = found.network
        done = set()
        for place, side, cpus in (
            (net.server, found.server, split.server),
            (net.load, found.load, split.server if not found.apart else split.load),
        ):
            boot = side.boot()
            if boot in done:
                continue
            done.add(boot)
            if boot == sides.here_boot():
                self._here = isolate.Holder(settings, cpus)
                report = self._here.report
            else:
                side_there = sides.side_at(
                    isolate.Isolation, place, net.ssh_config, sides.NO_LIMIT_S
                )
                isolation = self._there.enter_context(side_there)
                report = isolation.apply(dict(settings), cpus)
                self._isolations.append(isolation)
            self.notes += isolate.describe(report)

    def end(self) -> list[str]:
        """What was put back. Raises IsolationFault or SideLost if not all was, or if that was not at the end."""
        with self._there:
            lines = [line for isolation in self._isolations for line in isolation.restore()]
        return [*lines, *(self._here.end() if self._here else [])]
