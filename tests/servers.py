"""Tracking servers for tests, and a proxy that may lose their answers."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """A tracking server with a store in a folder, and a proxy in front that may lose its answers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None
        self.lose, self.answers = 0, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.behind_proxy = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        # Its background jobs, which nothing here uses, would take a process each.
        variables = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.process = subprocess.Popen(command, start_new_session=True, env=variables)
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=1).read()
                return
            except OSError:
                time.sleep(0.2)
        raise TimeoutError("the tracking server does not start")

    def kill(self) -> None:
        """Send all its processes SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def lose_every(self, number: int) -> None:
        """Make the proxy lose one answer in `number` from now on: all of them with 1, none with 0."""
        self.lose = number

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._relay, args=[client], daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)) as server:
            threading.Thread(target=self._forward, args=[client, server], daemon=True).start()
            while answer := server.recv(1 << 16):
                self.answers += 1
                if self.lose and self.answers % self.lose == 0:
                    while self.lose == 1:  # as if the server were silent
                        time.sleep(0.2)
                    break
                client.sendall(answer)
            for end in (client, server):  # closing alone waits for the thread that reads
                end.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _forward(client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while request := client.recv(1 << 16):
                server.sendall(request)
