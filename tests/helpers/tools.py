"""A machine that has few programs."""

from pathlib import Path


def tools_in(folder: Path, *names: str) -> Path:
    """A PATH of these alone."""
    (folder / "tools").mkdir()
    for name in names:
        (folder / "tools" / name).symlink_to(f"/usr/bin/{name}")
    return folder / "tools"
