"""Hosts of their own on this machine, by Linux namespaces: a name, a network and processes that no other host sees. Root is needed.

They share this machine's files, as hosts share a folder that a third one serves. What runs on a host ends with it, and its network goes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .command import environment

INIT = 'trap "" CHLD; hostname "$0" && ip link set lo up && echo up && exec sleep infinity'  # ignored, children leave no zombies


class Host:
    """A host called `name`, in a network by itself. Programs there have `env` on top of the tests' environment."""

    def __init__(self, name: str, env: dict[str, str]) -> None:
        self.name, self.env, self.address = name, env, ""
        spaces = ["--net", "--uts", "--mount", "--pid"]
        self.holder = subprocess.Popen(
            ["unshare", *spaces, "--mount-proc", "--fork", "--kill-child", "sh", "-c", INIT, name], stdout=subprocess.PIPE, text=True
        )
        assert self.holder.stdout and self.holder.stdout.readline() == "up\n"
        self.init = int(Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text().split()[0])
        self.enter = ["nsenter", "--target", str(self.init), *spaces]

    def start(self, *command: str, cwd: Path, log: Path) -> subprocess.Popen[bytes]:
        """Start Python with these arguments there; what it says goes to `log`."""
        with log.open("wb") as file:
            return subprocess.Popen(
                [*self.enter, "env", "-C", str(cwd), sys.executable, *command],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment(self.env),
                start_new_session=True,
            )

    def ip(self, *command: str) -> None:
        """Run `ip` in its network, with processes numbered as they are here."""
        subprocess.run(["nsenter", "--target", str(self.init), "--net", "ip", *command], check=True)

    def end(self) -> None:
        """Switch it off."""
        self.holder.kill()
        self.holder.wait()


class Link:
    """The cable between two hosts, which are 10.77.0.1 and 10.77.0.2 at its ends."""

    def __init__(self, one: Host, other: Host) -> None:
        self.one, self.other = one, other
        one.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", str(other.init))
        for number, host in enumerate((one, other), start=1):
            host.address = f"10.77.0.{number}"
            host.ip("address", "add", f"{host.address}/24", "dev", "eth0")
            host.ip("link", "set", "eth0", "up")

    def cut(self) -> None:
        """Pull the plug of the second host."""
        self.other.ip("link", "set", "eth0", "down")

    def restore(self) -> None:
        """Plug it in again."""
        self.other.ip("link", "set", "eth0", "up")


def why_no_hosts() -> str:
    """What this machine lacks for them; nothing where it lacks nothing."""
    missing = [program for program in ("unshare", "nsenter", "ip") if shutil.which(program) is None]
    if missing:
        return f"hosts in namespaces need {', '.join(missing)}"
    made = subprocess.run(
        ["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"],
        capture_output=True,
        check=False,
    )
    return f"hosts in namespaces need root: {made.stderr.decode().strip()}" if made.returncode else ""


@contextmanager
def two_hosts(folder: Path, env: dict[str, str]) -> Iterator[tuple[Host, Host, Link]]:
    """Two hosts, a-host and b-host, with temporary folders of their own below `folder` (a short path), and the link between them."""
    with ExitStack() as held:
        made = []
        for name in ("a-host", "b-host"):
            temporary = folder / name[0]
            temporary.mkdir()
            made.append(Host(name, env | {"TMPDIR": str(temporary), "VITNAS_CACHE": str(temporary / "cache")}))
            held.callback(made[-1].end)
        yield made[0], made[1], Link(*made)
