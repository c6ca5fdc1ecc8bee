"""Real stores and servers of MLflow that fail or cannot be used."""

import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from threading import Thread

import pytest
from conftest import Project
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, PERMISSION_DENIED
from sent import check_everything, expected, held, points
from servers import Server
from shortages import small_disk

from fspkd.errors import UserError
from fspkd.plan import Plan
from fspkd.runs.folder import RunFolder
from fspkd.runs.journal import read_journal
from fspkd.tracking import follow, sync
from fspkd.tracking.follow import FOLLOWED, SECONDS_TO_FINISH, Follower, Sender, tell
from fspkd.tracking.sync import Sync

pytestmark = pytest.mark.usefixtures("store")


def sync_script(project: Project, **environment: str) -> subprocess.CompletedProcess:
    return project.run("python", "scripts/sync_mlflow.py", "results/tiny", **environment)


def test_answers_that_get_lost_send_nothing_twice(
    made: Project, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server accepts what it is sent, but now and then its answer never arrives."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.behind_proxy)
    sender = Sender([Path("results/tiny")])
    failed = 0
    server.lose_every(3)
    while not sender.send():
        assert not sender.has_answer
        failed += 1
        server.lose_every(server.lose + failed)  # so that each try gets further
    assert failed > 5
    check_everything(made, MlflowClient(server.address))


def test_nothing_there_is_told_in_a_line_and_with_exit_status_1(made: Project) -> None:
    result = sync_script(made, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert result.returncode == 1
    assert "not everything was sent" in result.stderr
    assert "Traceback" not in result.stderr


def test_store_of_an_older_mlflow_is_told_with_the_command(made: Project) -> None:
    with closing(sqlite3.connect("mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '0584bdc529eb'")
    result = sync_script(made)
    assert result.returncode == 1
    assert f"upgrade it: mlflow db upgrade sqlite:///{Path('mlflow.db').absolute()}" in result.stderr


def answer_without_end(listening: socket.socket, healthy: bool) -> None:
    """Answer one request after the other, each without end, except those for a healthy server's health."""
    while True:
        with suppress(OSError):
            connection, _ = listening.accept()
            request = connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while not (healthy and request.startswith(b"GET /health")):
                connection.sendall(b"x" * 100)
                time.sleep(0.05)
            connection.close()


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("no database", r"^file is not a database"),
        ("no file", r"^unable to open database file"),
        ("question mark", r"^the address of the store has a '\?'"),
        ("no server", r"^HTTPConnectionPool.* url: /health .*refused"),
        ("answers without end", r"^the store's answer never ends"),
        ("healthy, without end", r"get-by-name .*Read timed out"),
    ],
)
def test_store_that_cannot_be_used_is_told(
    project: Project, monkeypatch: pytest.MonkeyPatch, what: str, told: str, store: Path
) -> None:
    address = None
    match what:
        case "no database":
            store.write_bytes(b"something else" * 1000)
        case "no file":
            store.unlink()
            store.mkdir()
        case "question mark":
            address = f"sqlite:///{project.folder}/what?/mlflow.db"
        case "no server":
            address = "http://somebody:secret@127.0.0.1:9"
        case "answers without end" | "healthy, without end":
            listening = socket.create_server(("127.0.0.1", 0))
            Thread(target=answer_without_end, args=(listening, what.startswith("healthy")), daemon=True).start()
            address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    if address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(Exception, match=told):
        Sync(project.plan())


def test_deleted_experiment_is_told_and_keeps_nothing_else_from_being_sent(
    made: Project, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("config/first.yaml").write_text("extends: tiny\nresults: results/first\nshows: [figure3]\n")
    Path("results/first").mkdir()
    Path("results/first/figure3.png").touch()  # so that it counts as begun
    client = MlflowClient(f"sqlite:///{store}")
    deleted = client.create_experiment("fspkd-first")
    client.delete_experiment(deleted)
    assert not Sender([Path("results/first"), Path("results/tiny")]).send()
    assert f"mlflow experiments restore --experiment-id {deleted}" in capsys.readouterr().err
    check_everything(made, client)


@pytest.mark.parametrize(("code", "goes_on"), [(PERMISSION_DENIED, True), (INTERNAL_ERROR, False)])
def test_experiment_that_a_server_refuses_keeps_nothing_else_from_being_sent(
    made: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int, goes_on: bool
) -> None:
    """As a server with a login does with somebody else's; after an error of the server's own it is not asked again."""
    begun = []

    class RefusedSync(Sync):
        def __init__(self, plan: Plan) -> None:
            begun.append(plan.preset.name)
            if plan.preset.name == "first":
                raise MlflowException("no", error_code=code)
            super().__init__(plan)

    Path("config/first.yaml").write_text("extends: tiny\nresults: results/first\nshows: [figure3]\n")
    Path("results/first").mkdir()
    Path("results/first/figure3.png").touch()  # so that it counts as begun
    monkeypatch.setattr(sync, "Sync", RefusedSync)
    assert not Sender([Path("results/first"), Path("results/tiny")]).send()
    assert "not everything was sent: MlflowException: no" in capsys.readouterr().err
    assert begun == ["first", *(["tiny"] if goes_on else [])]


@pytest.mark.parametrize(("has_answer", "sendings"), [(True, 2), (False, 1)])
def test_the_rest_is_sent_at_the_end_unless_the_store_has_just_failed(
    monkeypatch: pytest.MonkeyPatch, has_answer: bool, sendings: int
) -> None:
    """Whatever other problems there were, such as a damaged file."""
    reading, writing = os.pipe()
    sent = []

    class Ending(Sender):
        def send(self) -> bool:
            if not sent:
                os.close(writing)  # as the followed process does at its end
            sent.append(self)
            self.problems, self.has_answer = ["a damaged file"], has_answer
            return False

    with os.fdopen(reading) as pipe:
        monkeypatch.setattr("sys.stdin", pipe)
        follow.follow(Ending([]), 0.01)
    assert len(sent) == sendings


def test_wait_at_the_end_must_be_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECONDS_TO_FINISH, "soon")
    with pytest.raises(UserError, match="FSPKD_MLFLOW_SECONDS=soon: must be a number of seconds"):
        Follower()


def test_passwords_are_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    tell("http://somebody:se-cret@127.0.0.1:9/health and postgresql://a:b@b@c/d do not answer")
    said = capsys.readouterr().err
    assert said == "MLflow: http://***@127.0.0.1:9/health and postgresql://***@c/d do not answer\n"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """The server's folder, on a small disk."""
    folder = tmp_path / "server"
    folder.mkdir()
    with small_disk(folder, "40m"):
        yield folder


TRAIN_AND_SEND_OFTEN = """
import runpy, sys
from fspkd.tracking import follow
follow.SECONDS_BETWEEN_SENDINGS = 3
sys.argv[0] = "scripts/train.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_server_that_fails_in_the_middle(workflow: Project, disk: Path, server: Server) -> None:
    """It is killed, falls silent, and its disk is full: training continues, and what was missed is sent afterwards, once."""
    workflow.set("schedules.long", [{"until": 100_000, "rate": 0.01}])
    run = workflow.plan().net("teacher/1")
    environment = {"MLFLOW_TRACKING_URI": server.behind_proxy}
    command = ("python", "-c", TRAIN_AND_SEND_OFTEN, "results/tiny", run.id, "--checkpoint-seconds", "1")
    with Path("said").open("wb") as said:
        training = workflow.start(*command, environment=environment, stderr=said)
    client = MlflowClient(server.address)

    def sent_until() -> int:
        with suppress(MlflowException):  # the server is starting
            if client.get_experiment_by_name("fspkd-tiny"):
                return max((step for r in held(client).values() for step, _ in points(client, r, "loss")), default=0)
        return 0

    def wait_until(condition: Callable[[], object], what: str) -> None:
        for _ in range(240):
            time.sleep(0.5)
            assert training.poll() is None
            if condition():
                return
        raise AssertionError(f"waited in vain until {what}: {Path('said').read_text()}")

    def wait_for_more() -> None:
        step = sent_until()
        wait_until(lambda: sent_until() > step, f"more is sent than iteration {step}")

    def wait_for(failure: str) -> None:
        wait_until(lambda: re.search(rf"not everything was sent.*{failure}", Path("said").read_text()), "it is told")

    wait_for_more()
    server.kill()
    wait_for("Connection aborted")
    server.start()
    wait_for_more()
    server.lose_every(1)
    wait_for("ReadTimeout")
    server.lose_every(0)
    wait_for_more()
    filler = disk / "filler"
    subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=4k"], check=False)
    wait_for("503")
    training.send_signal(signal.SIGTERM)
    assert training.wait() == 128 + signal.SIGTERM

    filler.unlink()
    assert sync_script(workflow, **environment).returncode == 0
    (tracked,) = (run for run in held(client).values() if run.info.run_name == "Teacher, net 1")
    saved = read_journal(run.folder).saved
    for key in ("loss", "test_accuracy"):
        wanted = [(i, v) for i, v in expected(run.folder.growing_metrics, key) if i <= saved]
        assert points(client, tracked, key) == wanted


def test_the_wait_at_the_end_is_short(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(SECONDS_TO_FINISH, "0.2")
    monkeypatch.setenv(FOLLOWED, "1")
    follower = Follower()
    follower.process = slow = subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE)
    follower.stop()
    assert slow.wait(5) == -signal.SIGKILL
    assert "the rest is sent next time" in capsys.readouterr().err


def test_a_net_that_cannot_be_read_keeps_no_other_row_from_being_sent(
    made: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither one of the preset nor, as a clone that several people share may have, one of another's."""
    folder = made.plan().net("teacher/2").folder
    others = RunFolder(shutil.copytree(folder.path, folder.path.with_name("teacher-2-others")))
    content = folder.journal.read_bytes()
    for journal in (folder.journal, others.journal):
        journal.unlink()
        journal.mkdir()  # which not even root can read
    sender = Sender([Path("results/tiny")])
    assert not sender.send()
    assert sender.has_answer
    told = capsys.readouterr().err
    assert all(str(journal) in told for journal in (folder.journal, others.journal))
    assert held(MlflowClient())["Student*, net 1"].info.status == "FINISHED"
    folder.journal.rmdir()
    folder.journal.write_bytes(content)
    assert sender.send()
    check_everything(made, MlflowClient())
