"""Real process trees: whatever ends, and however, nothing of a server's tree is left.

The server here is a small process with a grandchild in a session of its own; both ignore SIGTERM and hold a connection
to the test, so that the test learns of their end from the kernel and waits for nothing else.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.run.folder import RunFolder
from tests.unit.servers.test_model_folder import model

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 20.0

SERVER = """
import os, signal, socket, subprocess, sys
port, name = sys.argv[1:]
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if name == "parent":
    subprocess.Popen([sys.executable, __file__, port, "child"], start_new_session=True)
connection = socket.create_connection(("127.0.0.1", int(port)))
connection.sendall(f"{name} {os.getpid()}\\n".encode())
connection.recv(1)
"""

SUPERVISE = """
import asyncio, os, sys
from pathlib import Path
from pipeline.errors import ServerStartError
from pipeline.runtime.child_process import die_with_parent
from servers.process_tree import adopt_orphans
from servers.supervisor import Supervisor
die_with_parent()
adopt_orphans()
up, restarts, startup_timeout_s, log, *command = sys.argv[1:]
def is_up():
    print("asked", flush=True)
    return up == "up"
supervisor = Supervisor(command, os.environ, Path(log), is_up, max_restarts=int(restarts),
                        startup_timeout_s=float(startup_timeout_s), first_pause_s=0.01, grace_s=0.2)
try:
    asyncio.run(supervisor.run())
except ServerStartError as error:
    sys.exit(str(error))
"""


class Tree:
    """The supervised server's two processes, as the test sees them."""

    def __init__(self, listener: socket.socket, script: Path) -> None:
        self._listener = listener
        script.write_text(SERVER)
        self.command = [sys.executable, str(script), str(listener.getsockname()[1]), "parent"]
        self._connections: list[socket.socket] = []
        self.pids: dict[str, int] = {}

    def arrive(self) -> None:
        """Wait until parent and child have both reported."""
        for _ in range(2):
            connection, _address = self._listener.accept()
            connection.settimeout(DEADLINE_S)
            self._connections.append(connection)
            with connection.makefile() as lines:
                name, pid = lines.readline().split()
            self.pids[name] = int(pid)

    def vanish(self) -> None:
        """Wait until both processes are gone; the kernel closes their connections. Raises TimeoutError if they stay."""
        for connection in self._connections:
            try:
                assert connection.recv(1) == b""
            except ConnectionResetError:
                continue
            finally:
                connection.close()
        self._connections.clear()

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE_S)
        found = Tree(listener, tmp_path / "server.py")
        yield found
        found.close()


@contextmanager
def supervised(
    command: list[str], log: Path, *, up: bool = True, max_restarts: int = 0, startup_timeout_s: float = 30.0
) -> Iterator[subprocess.Popen[str]]:
    arguments = ["up" if up else "down", str(max_restarts), str(startup_timeout_s), str(log), *command]
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until_up(supervisor: subprocess.Popen[str]) -> None:
    """Wait until the supervisor has found its server up: a death before that is a failed start."""
    assert supervisor.stdout is not None
    assert supervisor.stdout.readline() == "asked\n"


def child_of(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_ends_the_whole_tree_and_itself_well(tree: Tree, tmp_path: Path, number: int) -> None:
    with supervised(tree.command, tmp_path / "log") as supervisor:
        tree.arrive()
        supervisor.send_signal(number)
        tree.vanish()
        assert supervisor.wait(DEADLINE_S) == 0


def test_killed_outright_it_still_leaves_nothing(tree: Tree, tmp_path: Path) -> None:
    with supervised(tree.command, tmp_path / "log") as supervisor:
        tree.arrive()
        supervisor.kill()
        tree.vanish()


def test_the_end_of_its_parent_ends_the_tree(tree: Tree, tmp_path: Path) -> None:
    arguments = ["up", "0", "30", str(tmp_path / "log"), *tree.command]
    start = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"
    with subprocess.Popen([sys.executable, "-c", start, SUPERVISE, *arguments], cwd=ROOT) as parent:
        tree.arrive()
        parent.kill()
        tree.vanish()


def test_a_server_whose_guard_is_killed_is_cleaned_up_and_started_again(tree: Tree, tmp_path: Path) -> None:
    with supervised(tree.command, tmp_path / "log", max_restarts=1) as supervisor:
        tree.arrive()
        until_up(supervisor)
        os.kill(child_of(supervisor.pid), signal.SIGKILL)
        tree.vanish()
        tree.arrive()
        supervisor.terminate()
        tree.vanish()
        assert supervisor.wait(DEADLINE_S) == 0


def test_a_server_that_dies_leaves_no_orphan_and_comes_back(tree: Tree, tmp_path: Path) -> None:
    with supervised(tree.command, tmp_path / "log", max_restarts=1) as supervisor:
        tree.arrive()
        until_up(supervisor)
        first = tree.pids["parent"]
        os.kill(first, signal.SIGKILL)
        tree.vanish()
        tree.arrive()
        assert tree.pids["parent"] != first
        supervisor.terminate()
        tree.vanish()


def test_a_first_start_that_fails_is_reported_at_once_with_the_cause(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise ValueError('no memory for the cache')"]
    with supervised(command, tmp_path / "log", up=False, max_restarts=5) as supervisor:
        _, message = supervisor.communicate(timeout=DEADLINE_S)
    assert "ended during its start with status 1" in message
    assert "ValueError: no memory for the cache" in message
    assert (tmp_path / "log").read_text().count("=== ") == 1


def test_restarts_are_bounded(tree: Tree, tmp_path: Path) -> None:
    with supervised(tree.command, tmp_path / "log", max_restarts=1) as supervisor:
        for _ in range(2):
            tree.arrive()
            until_up(supervisor)
            os.kill(tree.pids["parent"], signal.SIGKILL)
            tree.vanish()
        _, message = supervisor.communicate(timeout=DEADLINE_S)
    assert "the server ended by itself with status 137; restart 1 of 1" in message
    assert "after 1 restarts (servers.max_restarts)" in message
    assert (tmp_path / "log").read_text().count("=== ") == 2


def test_a_server_that_never_answers_is_ended(tree: Tree, tmp_path: Path) -> None:
    with supervised(tree.command, tmp_path / "log", up=False, startup_timeout_s=2.0) as supervisor:
        tree.arrive()
        tree.vanish()
        _, message = supervisor.communicate(timeout=DEADLINE_S)
    assert "did not answer within servers.startup_timeout_s = 2" in message


def launch(run: RunFolder, port: int, folder: Path, index: int = 0) -> subprocess.CompletedProcess[str]:
    arguments = ["--run", str(run.path), "--index", str(index), "--port", str(port), "--model", str(folder)]
    return subprocess.run(
        [sys.executable, "-m", "servers.launch", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def run_folder(tmp_path: Path, **servers: object) -> RunFolder:
    config = Config.model_validate({"run": {"root": tmp_path, "name": "run"}, "servers": servers})
    return RunFolder.create(config)


def test_the_launcher_names_a_port_in_use(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = launch(run_folder(tmp_path), port, model(tmp_path / "model"))
    assert result.returncode == 2
    assert f"error: servers.port = {port}: " in result.stderr
    assert "in use" in result.stderr


def test_the_launcher_names_a_broken_model_folder_and_a_wrong_index(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    result = launch(run, 1, tmp_path)
    assert result.returncode == 2
    assert f"the folder {tmp_path} lacks" in result.stderr
    assert "--index 3 is not below servers.num_servers = 1" in launch(run, 1, tmp_path, index=3).stderr


def test_the_launcher_shows_what_vllm_refuses(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    result = launch(run_folder(tmp_path, extra_args=["--nonsense"]), port, model(tmp_path / "model"))
    assert result.returncode == 2
    assert "error: the server ended during its start with status 2" in result.stderr
    assert "unrecognized arguments: --nonsense" in result.stderr
