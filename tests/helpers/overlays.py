"""Overlays of the config, of sweeps that take little time."""

from typing import Any

import yaml

SHORT: dict[str, Any] = {"servers": ["server_epoll"], "control": None, "repeats": 1}
SHORT |= {"duration_s": 0.2, "warmup_s": 0, "paired_s": 0, "disturbed_retries": 0}
SHORT |= {"workloads": ["keepalive"]}


def overlay(**changes: Any) -> str:
    return yaml.safe_dump({**SHORT, **changes}, default_flow_style=None)
