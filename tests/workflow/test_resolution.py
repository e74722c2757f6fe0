"""What a machine can resolve: from made-up windows of work to figures and words; and the loop on this machine."""

import contextlib
import itertools
import math
import os
import random
import time

import numpy as np
import pytest

from analysis import inference
from hosts.cpus import CpuSplit
from hosts.network import Network
from instruments import speed_loop
from instruments.speed_loop import Window
from measuring import places, runs
from measuring.preflight_side import PreflightSide
from workflow import resolution
from workflow.resolution import Sweep

SWEEP = Sweep(8, [1, 10, 50, 100, 500, 1000], 5, 0.3)
ALONE = Sweep(2, [1], 3, 0.3)
CPU_NS = 1e7  # of a window
HERE = CpuSplit([0], [0], shared=True)


def steady(number: int = 400, work: float = 1000.0) -> list[Window]:
    return [Window(work, CPU_NS)] * number


def steps(*speeds: float, each: int = 10) -> list[Window]:
    return [Window(speed, CPU_NS) for speed in speeds for _ in range(each)]


# --- Figures ---


def test_steady_speed_does_not_wander_and_differs_from_no_slice_to_the_next() -> None:
    assert resolution.speed_variation(steady()) == 0
    assert resolution.slice_noise(steady(), 0.05, 0.05) == pytest.approx(0)


def test_wandering_is_the_coefficient_of_variation_of_tenths_of_a_second() -> None:
    assert resolution.speed_variation(steps(80, 120)) == pytest.approx(0.2)
    # What comes and goes within 0.1 s is not wandering.
    assert resolution.speed_variation(steps(80, 120, each=5) * 10) == pytest.approx(0)


def test_noise_of_slices_of_white_noise_falls_with_their_length_and_minds_no_pause() -> None:
    chance = random.Random(1)
    windows = [Window(chance.gauss(1000, 50), CPU_NS) for _ in range(20_000)]
    for slice_s, pause_s in ((0.02, 0), (0.05, 0.05), (0.1, 0.05)):
        expected = 0.05 * math.sqrt(2 / (slice_s / speed_loop.WINDOW_S))
        assert resolution.slice_noise(windows, slice_s, pause_s) == pytest.approx(expected, rel=0.1)


def test_noise_of_slices_grows_with_a_pause_where_the_speed_drifts() -> None:
    drift = [Window(1000 + number, CPU_NS) for number in range(400)]
    near, far = (resolution.slice_noise(drift, 0.05, pause_s) for pause_s in (0, 0.05))
    assert far == pytest.approx(2 * near)


def test_other_processes_make_the_speed_wander_but_do_not_change_the_work_per_cpu_time() -> None:
    shared = [Window(work, work * 1e4) for work in (1000, 1000, 0, 500) for _ in range(10)] * 4
    assert resolution.speed_variation(shared) > 0.5
    assert resolution.slice_noise(shared, 0.02, 0) == pytest.approx(0)


def test_slices_longer_than_what_was_measured_are_taken_as_long_as_fits() -> None:
    assert resolution.slice_noise(steps(*[90, 110] * 6), 10, 0.05) < 0.3


def test_deviation_of_a_ratio_is_that_of_processes_and_of_its_slices() -> None:
    few, many = resolution.deviations([0, 0], Sweep(8, [10, 50], 5, 0.3))
    assert (few, many) == (resolution.PROCESSES_FEW, resolution.PROCESSES_MANY)
    (noisy,) = resolution.deviations([0.04], ALONE)  # 16 pairs of slices
    assert noisy == pytest.approx(math.sqrt(resolution.PROCESSES_FEW**2 + 0.04**2 / 16))


@pytest.mark.parametrize(
    "sweep",
    [ALONE, Sweep(3, [1, 100], 3, 0.3), SWEEP, Sweep(30, [1] * 20, 50, 0.3)],
    ids=["least", "small", "default", "large"],
)
def test_smallest_difference_is_what_the_verdicts_would_call_so(sweep: Sweep) -> None:
    """comparisons.smallest_detectable, with noncentral t in place of its approximation."""
    noises = [0.03] * len(sweep.connections)
    overall, at_points = resolution.detectable_by(noises, sweep)
    errors = np.array(resolution.deviations(noises, sweep)) * math.sqrt(2 / sweep.repeats)
    pairs, points = math.comb(sweep.servers, 2), len(errors)
    for found, error, pooled in (
        ([overall], np.sqrt([np.mean(errors**2) / points]), points),
        (at_points, errors, 1),
    ):
        errors_of_tests = np.tile(error, (pairs, 1))
        freedom = np.full_like(errors_of_tests, (sweep.repeats - 1) * sweep.servers * pooled)
        exact = inference.smallest_detectable(freedom, errors_of_tests, np.zeros_like(freedom))
        few = freedom.min() < 10  # which the approximation of the noncentral t is rougher for
        assert found == pytest.approx(np.expm1(exact[0]), rel=0.1 if few else 0.05)


def test_constants_are_those_of_the_verdicts() -> None:
    assert (resolution.ALPHA, resolution.POWER) == (inference.ALPHA, inference.POWER)


# --- Words ---


@pytest.mark.parametrize(
    "shares, said",
    [
        ([0.0], "less than 1 %"),
        ([0.0099, 0.001], "less than 1 %"),
        ([0.004, 0.031], "up to 3 %"),
        ([0.02, 0.0204], "about 2 %"),
        ([0.06, 0.114], "6 to 11 %"),
    ],
)
def test_span_of_shares(shares: list[float], said: str) -> None:
    assert resolution.format_span(*shares) == said


def test_speed_is_told_of_both_sides_or_as_a_bound() -> None:
    windows_of = {"server": steps(85, 115), "load": steady()}
    assert resolution.describe_speed(windows_of, 1.2) == (
        "In 1.2 s the machine's speed varied by 15 % on the server's CPUs"
        " and by less than 1 % on the load's CPUs."
    )


def test_sweep_is_told_what_it_can_tell() -> None:
    assert resolution.describe_sweep(steady(), SWEEP) == (
        "From one slice to the next the work per CPU time changes by less than 1 %."
        " This sweep (5 repeats at 6 numbers of connections) can detect differences in CPU time per request"
        " of about 2 % over all connections, 3 to 7 % at a single number of connections."
    )
    assert resolution.describe_sweep(steady(), ALONE).endswith(
        "(3 repeats at 1 number of connections) can detect differences in CPU time per request of about 4 %."
    )


@pytest.mark.parametrize(
    "changes, said",
    [
        (
            {"repeats": 1},
            "cannot detect any difference: that takes 2 or more repeats (repeats: 1).",
        ),
        ({"servers": 1}, "one server: there is nothing to compare."),
        (
            {"paired_s": 0},
            "no paired phase (paired_s: 0): the differences that it can detect are not known.",
        ),
    ],
)
def test_sweep_that_can_tell_nothing_is_told_why(changes: dict[str, float], said: str) -> None:
    assert resolution.describe_sweep(steady(), SWEEP._replace(**changes)).endswith(said)


# --- The machine ---


class Side(PreflightSide):
    """Whose loop has done that, or fails at its start or end."""

    def __init__(self, outcome: list[Window] | OSError, fails_at_once: bool = False) -> None:
        super().__init__()
        self.outcome, self.fails_at_once = outcome, fails_at_once

    def start_speed_loop(self, _cpu_list: list[int], _seconds: float) -> None:
        if isinstance(self.outcome, OSError) and self.fails_at_once:
            raise self.outcome

    def end_speed_loop(self) -> list[list[float]]:
        if isinstance(self.outcome, OSError):
            raise self.outcome
        return [list(window) for window in self.outcome]


def told(server: PreflightSide, load: PreflightSide, shared: bool = False) -> list[str]:
    found = runs.Sides(Network(), server, load, False, {}, {})
    return resolution.describe(found, CpuSplit([0], [1], shared), SWEEP, 1.2).splitlines()


@pytest.mark.parametrize("at_once", [False, True])
def test_side_whose_speed_cannot_be_measured_is_a_line_and_the_other_is_told(at_once: bool) -> None:
    lost = Side(OSError("ssh:far: the connection was lost"), at_once)
    fault, line = told(Side(steady()), lost)
    assert fault == (
        "The speed of the load's CPUs was not measured: ssh:far: the connection was lost."
    )
    assert "by less than 1 % on the server's CPUs. From one slice" in line
    fault, line = told(lost, Side(steady()))
    assert fault.startswith("The speed of the server's CPUs was not measured")
    assert line.endswith("by less than 1 % on the load's CPUs.")
    assert len(told(lost, lost)) == 2


def test_sides_that_share_a_core_are_not_measured_at_the_same_time() -> None:
    (line,) = told(Side(steady()), Side(OSError("both at once")), shared=True)
    assert "load" not in line


def test_host_that_is_lost_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(_found: object) -> str:
        raise places.SideLost("ssh:far: the connection was lost")

    monkeypatch.setattr(runs, "lock_all", lose)
    (line,) = told(Side(steady()), Side(steady()))
    assert line == "The machine's speed was not measured: ssh:far: the connection was lost."


def test_other_host_that_is_measured_on_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "lock_all", lambda _found: "ssh:far")
    (line,) = told(Side(OSError("not to be asked"), True), Side(steady()))
    assert line == "The machine's speed was not measured: another measurement uses ssh:far."


def test_loop_tells_each_window_of_the_time_that_it_ran() -> None:
    """Whatever else runs here."""
    with contextlib.closing(PreflightSide()) as side:
        side.start_speed_loop(sorted(os.sched_getaffinity(0)), 0.5)
        windows = [Window(*window) for window in side.end_speed_loop()]
    assert len(windows) == 0.5 / speed_loop.WINDOW_S
    assert all(window.work > 0 and window.cpu_ns > 0 for window in windows)
    assert sum(window.cpu_ns for window in windows) <= 0.5e9


def test_what_spans_several_windows_is_shared_out_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds of 25 ms each, in 10 of which they have the CPU."""
    monkeypatch.setattr(time, "perf_counter_ns", itertools.count(0, 25_000_000).__next__)
    monkeypatch.setattr(time, "thread_time_ns", itertools.count(0, 10_000_000).__next__)
    windows = speed_loop.windows(0.2)
    assert np.array(windows) == pytest.approx(np.array([(0.4, 4e6)] * 20))


def test_loop_that_cannot_have_its_cpus_says_so_in_a_line() -> None:
    with contextlib.closing(PreflightSide()) as side:
        side.start_speed_loop([4095], 0.1)
        with pytest.raises(OSError, match=r"^status 1 \(CPUs 4095: Invalid argument\)$"):
            side.end_speed_loop()
