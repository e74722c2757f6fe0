"""How a run begins and ends, without Snakemake: what stops it, what it says, and that it leaves nothing behind."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.checkouts import ROOT, make_program, run_program
from workflow import outcome, session

CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())


def new_session() -> session.Session:
    return session.Session(CONFIG, str(ROOT), [], "", [], [])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_session_is_imported_without_snakemake_or_pandas() -> None:
    script = "import sys; from workflow import outcome, session, sources"
    script += "; print({'snakemake', 'pandas'} & {*sys.modules})"
    run = run_program([sys.executable, "-c", script], PYTHONPATH=str(ROOT / "scripts"))
    assert run.stdout == "set()\n", run.stderr


def test_programs_that_are_missing_are_named_where_they_are_needed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    for name in ("wrk", "taskset", "rsvg-convert"):
        make_program(folder / name, "true")
    rules = ["measure_cell", "draw_flamegraph", "plot_server"]
    with pytest.raises(
        SystemExit, match=r"^not installed: flamegraph, setpriv, ss: run make setup"
    ):
        session.check_tools(rules, measures_here=True)
    with pytest.raises(SystemExit, match=r"^not installed: flamegraph: run"):
        session.check_tools(rules, measures_here=False)
    session.check_tools(["plot_server"], measures_here=True)


def test_a_comparison_with_nothing_or_with_itself_does_not_begin(folder: Path) -> None:
    with pytest.raises(SystemExit, match=r"^no baseline: add --config baseline=FOLDER"):
        session.check_baseline(None, None)
    with pytest.raises(SystemExit, match=r"^baseline: "):
        session.check_baseline("absent", "absent")
    (folder / "results/cells").mkdir(parents=True)
    with pytest.raises(SystemExit, match=r"^baseline: \. is the folder of this result set itself"):
        session.check_baseline(".", str(folder))
    (folder / "old/results/cells").mkdir(parents=True)
    session.check_baseline("old", "old")


def test_a_run_that_may_not_begin_leaves_no_connection(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    connection = subprocess.Popen(["/bin/sleep", "60"], text=True)
    begun = new_session()
    begun.connections.append(connection)
    with pytest.raises(SystemExit, match=r"^not installed"):
        session.begin(begun, session.Jobs({"measure_cell": 1}, {}, {}), is_local=True)
    assert connection.poll() is not None
    assert list(folder.iterdir()) == []


def test_a_run_of_pictures_alone_looks_at_no_side_and_says_that_it_began(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "meet_sides", None)
    begun = new_session()
    session.begin(begun, session.Jobs({"plot_server": 3}, {}, {}), is_local=True)
    assert yaml.safe_load((folder / session.SWEEP_PATH).read_text())["config"] == begun.config
    assert capfd.readouterr().err == ""


def test_a_folder_that_cannot_be_written_is_one_line(folder: Path) -> None:
    (folder / "results").write_text("in the way")
    with pytest.raises(
        SystemExit, match=f"^not measured: cannot write in {re.escape(str(folder))}: "
    ):
        session.begin(new_session(), session.Jobs({"plot_server": 1}, {}, {}), is_local=True)


def test_what_a_cluster_measures_again_is_removed_before(folder: Path) -> None:
    """And only that: its nodes keep the records of a block that fails."""
    (folder / "results").mkdir()
    paths = [f"results/{name}" for name in ("stale.json", "plot.svg", "kept.json")]
    for path in paths:
        Path(path).touch()
    to_make = {"measure_cell": [paths[0]], "plot_server": [paths[1]]}
    counts = {"measure_cell": 1, "plot_server": 1}
    jobs = session.Jobs(counts, to_make, {"measure_cell": [paths[2]]})
    session.begin(new_session(), jobs, is_local=False)
    assert [path for path in paths if Path(path).exists()] == paths[1:]


def test_what_there_is_to_measure_is_announced_with_the_time(
    capfd: pytest.CaptureFixture[str],
) -> None:
    config = {**CONFIG, "workloads": ["keepalive"], "warmup_s": 1, "duration_s": 2, "paired_s": 0}
    config["profile"] = {**CONFIG["profile"], "duration_s": 3}
    jobs = {"measure_cell": 2, "profile_server": 1, "compile_server": 2, "all": 1}
    session.announce(config, jobs, is_local=True)
    assert capfd.readouterr().err == "2 cells and 1 profile to run, about 14 s\n"
    session.announce({**config, "paired_s": 10}, jobs, is_local=True)
    (seconds,) = re.findall(r"about (\d+) s$", capfd.readouterr().err)
    assert int(seconds) >= 13 + 2 * 10
    session.announce(config, jobs, is_local=False)
    assert capfd.readouterr().err == "2 cells and 1 profile to run\n"


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["-j1"], "make report"),
        (["-j1", "all"], "make report"),
        (["plots/ranking.png", "-j2"], "snakemake results/report.html -j2"),
        (
            ["-j1", "all", "--directory", "my runs"],
            "snakemake results/report.html -j1 --directory 'my runs'",
        ),
    ],
)
def test_command_for_the_page_has_the_options_of_this_run(
    arguments: list[str], command: str
) -> None:
    assert outcome.page_command(arguments, {"all", "plots/ranking.png"}) == command


def test_paths_are_as_the_user_named_the_folder() -> None:
    assert outcome.where_to_look("build/x").startswith("Open first: build/x/results/report.html\n")
    assert outcome.where_to_look("", "make report").startswith(
        "Open first: results/report.html, made by: make report\n"
    )
