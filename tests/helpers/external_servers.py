"""The external servers that this repository describes, prepared and started by tests."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

import prepare_external
from helpers.checkouts import ROOT
from instruments import external, server_process
from workflow.config_check import schema_faults

CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
SCHEMA = yaml.safe_load((ROOT / "schemas/config.schema.yaml").read_text())
YARDSTICKS = ["nginx", "h2o", "lighttpd"]
EXAMPLES = {
    name: description
    for block in re.findall(
        r"```yaml\n(.*?)```", (ROOT / "docs/external-servers.md").read_text(), re.DOTALL
    )
    for name, description in yaml.safe_load(block).get("external", {}).items()
}


def prepare(folder: Path, name: str, description: dict[str, Any]) -> str:
    """A launcher in a folder of results, as the workflow makes it."""
    assert schema_faults({"external": {name: description}}, SCHEMA) == []
    assert list(external.description_faults(name, description, str(ROOT))) == []
    path = folder / "results/bin" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    prepare_external.write_launcher(str(path), external.describe_launcher(description, str(ROOT)))
    return str(path)


@contextlib.contextmanager
def started(
    binary: str, host: str = "::1", workers: int = 1, options: Sequence[str] = ()
) -> Iterator[server_process.Server]:
    with server_process.running_server(
        binary, host=host, interface=None, workers=workers, prefix=[], options=options
    ) as server:
        yield server
