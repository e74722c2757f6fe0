"""Servers of other git revisions, built and measured beside those that lie here."""

import subprocess
from pathlib import Path

import pytest

from helpers.checkouts import copy_checkout, environment, run_snakemake
from workflow import revisions

OLD, NEW = "Hello, Monde!", "Hello, World!"  # bodies


def git(checkout: Path, *arguments: str) -> None:
    names = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    command = ["git", "-C", str(checkout), *names, *arguments]
    subprocess.run(command, check=True, capture_output=True, env=environment())


def commit(checkout: Path) -> None:
    git(checkout, "add", "--all", "--force", "servers")
    git(checkout, "commit", "--quiet", "--message", "test")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its last commit has another body than the one before, and a file of its own."""
    found = copy_checkout(tmp_path_factory.mktemp("revisions") / "check out")
    git(found, "init", "--quiet")
    header = found / "servers/common/answers.h"
    text = header.read_text()
    assert NEW in text
    header.write_text(text.replace(NEW, OLD))
    commit(found)
    header.write_text(text)
    (found / "servers/server_mine.c").write_text((found / "servers/server_epoll.c").read_text())
    commit(found)
    for tag in ("old_control", "old_flamegraph"):
        git(found, "tag", tag, "HEAD~1")
    return found


def run(checkout: Path, server: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    servers = f"servers=['{server}', 'server_epoll']"
    return run_snakemake(checkout, *arguments, "--directory", "out", "--config", servers)


def test_a_server_is_built_from_its_revision(checkout: Path) -> None:
    """With what it includes: headers, and the file of another server."""
    name = "server_epoll_multitask"
    for server, body in ((f"{name}@HEAD~1", OLD), (f"{name}@HEAD", NEW)):
        made = run(checkout, server, f"results/bin/{server}")
        assert made.returncode == 0, made.stdout
        assert body.encode() in (checkout / "out/results/bin" / server).read_bytes()
    assert run(checkout, name, f"results/bin/{name}").returncode == 0
    same = [checkout / "out/results/bin" / server for server in (name, f"{name}@HEAD")]
    assert same[0].read_bytes() == same[1].read_bytes()


def test_a_revision_is_known_by_its_content(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout)
    before = revisions.find("server_epoll@HEAD", ".")
    git(checkout, "commit", "--quiet", "--allow-empty", "--message", "nothing")
    after = revisions.find("server_epoll@HEAD", ".")
    assert after[0] != before[0] and after[1] == before[1]
    assert revisions.find("server_epoll@HEAD~2", ".")[1] != after[1]
    git(checkout, "reset", "--quiet", "--hard", "HEAD~1")


def test_a_commit_that_changes_another_server_makes_nothing_stale(checkout: Path) -> None:
    server = "server_epoll@HEAD"
    assert run(checkout, server, f"results/bin/{server}").returncode == 0
    with (checkout / "servers/server_poll.c").open("a") as file:
        file.write("int added;\n")
    commit(checkout)
    planned = run(checkout, server, f"results/bin/{server}", "--dry-run")
    assert "compile_server" not in planned.stdout, planned.stdout
    with (checkout / "servers/server_epoll.c").open("a") as file:
        file.write("int added;\n")
    commit(checkout)
    planned = run(checkout, server, f"results/bin/{server}", "--dry-run")
    assert "compile_server" in planned.stdout, planned.stdout
    git(checkout, "reset", "--quiet", "--hard", "HEAD~2")


REFUSED = {
    "server_epoll@nowhere": "this checkout has no revision 'nowhere'",
    "server_mine@HEAD~1": "there is no servers/server_mine.c in revision 'HEAD~1'",
    "server_epoll@": "found 'server_epoll@', allowed: the NAME of a file",
    "server_epoll@--all": "found 'server_epoll@--all', allowed: the NAME of a file",
    "server_epoll@^HEAD": "found 'server_epoll@^HEAD', allowed: the NAME of a file",
    "server_epoll@a/b": "found 'server_epoll@a/b', allowed: the NAME of a file",
    "nginx@HEAD": "an external server has no revisions",
    "server_epoll@old_control": "other results have names like that",
    "server_epoll@old_flamegraph": "other results have names like that",
}


@pytest.mark.parametrize("server", REFUSED)
def test_what_is_no_server_of_a_revision_is_one_line(server: str, checkout: Path) -> None:
    ended = run(checkout, server, "--dry-run")
    assert ended.returncode == 1
    said = [line for line in ended.stdout.splitlines() if "server" in line]
    assert len(said) == 1 and REFUSED[server] in said[0], ended.stdout
    assert "Traceback" not in ended.stdout


def test_a_folder_that_cannot_be_written_is_one_line(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").touch()
    with pytest.raises(revisions.NoRevision, match="cannot be written to results/source"):
        revisions.find("server_epoll@HEAD", str(checkout))


def test_without_a_repository_there_are_no_revisions(tmp_path: Path) -> None:
    (tmp_path / "servers").mkdir()
    with pytest.raises(revisions.NoRevision, match="has no revisions: no git repository"):
        revisions.find("server_epoll@HEAD", str(tmp_path))


def test_a_repository_of_another_user_is_not_said_to_be_none(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(revisions.NoRevision, match=r"another user's \(git's safe.directory\)"):
        revisions.find("server_epoll@HEAD", str(checkout))
