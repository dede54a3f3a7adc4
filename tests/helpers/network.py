"""Folders of real network file systems: a server of this machine on a port of its own, and a client in user space, by FUSE."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _until(done: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def _answers(port: int) -> bool:
    with socket.socket() as line:
        return line.connect_ex(("127.0.0.1", port)) == 0


def _family(process: int) -> list[int]:
    """A process and all that descend from it."""
    found = [process]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        if parent == process:
            found += _family(int(folder.name))
    return found


class Network:
    """A mounted folder. path: the client's; behind: the server's. kind: sshfs or webdav."""

    def __init__(self, kind: str, work: Path) -> None:
        self.kind, self.work = kind, work
        self.path, self.behind = work / "mounted", work / "behind"
        for folder in (self.path, self.behind, work / "cache"):
            folder.mkdir()
        if kind == "sshfs":
            for name in ("key", "host"):
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", work / name], check=True)
            Path("/run/sshd").mkdir(exist_ok=True)
        self.start()

    def start(self) -> None:
        """Starts a server, and mounts its folder."""
        self.port = _free_port()
        commands = self._ssh() if self.kind == "sshfs" else self._webdav()
        with (self.work / "server.log").open("ab") as log:
            self.server = subprocess.Popen(commands[0], stdout=log, stderr=log, start_new_session=True)
        _until(lambda: _answers(self.port), "the server does not answer")
        environment = os.environ | {
            "RCLONE_CONFIG_DAV_TYPE": "webdav",
            "RCLONE_CONFIG_DAV_URL": f"http://127.0.0.1:{self.port}",
        }
        self.client = subprocess.Popen(commands[1], env=environment, stderr=subprocess.DEVNULL)
        _until(lambda: os.path.ismount(self.path), "nothing is mounted")

    def _ssh(self) -> tuple[list[str], list[str]]:
        work = self.work
        options = {
            "Port": self.port, "ListenAddress": "127.0.0.1", "HostKey": work / "host", "AuthorizedKeysFile": work / "key.pub",
            "PidFile": "none", "StrictModes": "no", "UsePAM": "no", "PermitRootLogin": "yes", "Subsystem": "sftp internal-sftp",
        }  # fmt: skip
        settings = [f"-o{name}={value}" for name, value in options.items()]
        known = f"IdentityFile={work / 'key'},StrictHostKeyChecking=no,UserKnownHostsFile=/dev/null,LogLevel=ERROR"
        client = ["sshfs", "-f", "-p", str(self.port), "-o", known, f"root@127.0.0.1:{self.behind}", str(self.path)]
        return ["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", *settings], client

    def _webdav(self) -> tuple[list[str], list[str]]:
        server = ["rclone", "serve", "webdav", str(self.behind), "--addr", f"127.0.0.1:{self.port}"]
        cache = ["--vfs-cache-mode", "writes", "--vfs-write-back", "0s", "--cache-dir", str(self.work / "cache")]
        return server, ["rclone", "mount", "DAV:", str(self.path), *cache]

    def kill_server(self) -> None:
        for process in reversed(_family(self.server.pid)):
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(process, signal.SIGKILL)
        self.server.wait()

    def unmount(self) -> None:
        subprocess.run(["fusermount3", "-uz", self.path], capture_output=True)  # sshfs unmounts by itself when its server dies
        _until(lambda: not os.path.ismount(self.path), "still mounted")
        self.client.kill()
        self.client.wait()

    def close(self) -> None:
        self.unmount()
        if self.server.poll() is None:
            self.kill_server()
