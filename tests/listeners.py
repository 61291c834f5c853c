"""Who listens on which address, as the kernel's tables say."""

from __future__ import annotations

from pathlib import Path

PROTOCOLS = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}  # the state of a socket that waits for others
Listener = tuple[str, str, str]  # program, protocol, and address:port as the kernel writes them


def loopback(address: str) -> bool:
    """Whether an address of /proc/net (hexadecimal, words in the host's order: little-endian) is 127.x.x.x or ::1."""
    mapped = "0000000000000000FFFF0000"
    if len(address) == 32 and not address.startswith(mapped):
        return address == "00000000000000000000000001000000"
    return address.removeprefix(mapped).endswith("7F")


def family(root: int, mark: str) -> list[int]:
    """`root`, whatever was started with `mark` in its environment, and their descendants; programs that rename themselves lose theirs."""
    parents: dict[int, int] = {}
    found = {root}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if mark.encode() in (folder / "environ").read_bytes():
                found.add(int(folder.name))
        except OSError:  # it has ended
            continue
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def target(link: Path) -> str:
    """Where a descriptor leads, "" where it was closed meanwhile."""
    try:
        return str(link.readlink())
    except OSError:
        return ""


def listeners(processes: list[int]) -> set[Listener]:
    """What the processes listen on now."""
    found: set[Listener] = set()
    for process in processes:
        folder = Path("/proc", str(process))
        try:
            sockets = {target(link) for link in (folder / "fd").iterdir()}
            program = (folder / "comm").read_text().strip()
            tables = {protocol: (folder / "net" / protocol).read_text().splitlines()[1:] for protocol in PROTOCOLS}
        except OSError:  # it has ended
            continue
        for protocol, rows in tables.items():
            for row in map(str.split, rows):
                if row[3] == PROTOCOLS[protocol] and f"socket:[{row[9]}]" in sockets:
                    found.add((program, protocol, row[1]))
    return found
