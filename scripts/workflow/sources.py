"""Where the source of each server that is compiled here is, and what decides what its binary is."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sweep.cells import LOAD, file_of
from workflow import revisions
from workflow.toolchain import (
    BadLink,
    NoCompiler,
    libraries_of,
    source_identity,
    toolchain_identity,
)


@dataclass(frozen=True)
class Sources:
    """Dictionaries are by server. On a node of a cluster, which compiles nothing, only `folder` is known."""

    folder: str  # of the servers without a revision
    old_folders: dict[str, str] = field(default_factory=dict)  # of those with one
    notes: list[str] = field(default_factory=list)  # about revisions, for the user
    toolchain: list[str] | None = None
    identities: dict[str, str] = field(default_factory=dict)
    bad_links: dict[str, str] = field(default_factory=dict)  # why a server is not compiled

    def path_of(self, server: str) -> str:
        """As seen from here, or from the working directory."""
        folder = self.old_folders.get(server, self.folder)
        if server == LOAD:
            folder = os.path.join(os.path.dirname(folder), LOAD)
        return os.path.join(folder, f"{file_of(server)}.c")

    def libraries_of(self, server: str) -> list[str]:
        """As the linker's options; a server that is not compiled needs none."""
        return [] if server in self.bad_links else libraries_of(self.path_of(server))


def find(folder: str, compiled: Sequence[str], compile_config: Mapping[str, Any]) -> Sources:
    """Unpacks those of other revisions. SystemExit, with one line, if one or the compiler is not there."""
    compiler, flags = compile_config["compiler"], compile_config["flags"]
    try:
        old_folders, notes = _find_old(compiled, os.path.dirname(folder))
        sources = Sources(folder, old_folders, notes, toolchain_identity(compiler))
        for server in compiled:
            try:
                identity = source_identity(
                    compiler, flags, sources.path_of(server), sources.toolchain or ()
                )
            except BadLink as fault:
                identity = sources.bad_links[server] = str(fault)
            sources.identities[server] = identity
    except revisions.NoRevision as fault:
        sys.exit(f"servers: {fault}")
    except NoCompiler as fault:
        sys.exit(str(fault))
    return sources


def _find_old(compiled: Sequence[str], checkout: str) -> tuple[dict[str, str], list[str]]:
    folders, notes = {}, []
    for server in compiled:
        if "@" in server:
            commit, folders[server] = revisions.find(server, checkout)
            notes.append(f"{server} is of commit {commit[:12]}")
    if notes and revisions.is_dirty(checkout):
        notes.append("servers/ has uncommitted changes: the servers named without @ include them")
    return folders, notes
