"""What of the machine itself is broken: a node's network, a small disk, a clock. The first two need root."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

PREFIX: Final = "mm-chaos-"  # of temporary folders
FAKETIME: Final = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
)


def faketime_library() -> Path | None:
    """libfaketime, which Debian's package `faketime` brings."""
    return next((Path(path) for path in FAKETIME if Path(path).exists()), None)


class Namespace:
    """A network namespace and a pair of interfaces into it, made and removed by us.

    Its numbers follow from our process's; `tried` is for one that only shows whether it can be made.
    """

    def __init__(self, *, tried: bool = False) -> None:
        number, tag = (2 * os.getpid() + tried) % 16_000, "t" * tried
        self.name = f"mm-{os.getpid()}{tag}"
        self.near, self.far = f"mmn{number}", f"mmf{number}"
        # A small net of the range that is set aside for trying out networks (RFC 2544).
        self.host = f"198.18.{number // 64 % 256}.{number % 64 * 4 + 1}"
        self._inside = f"198.18.{number // 64 % 256}.{number % 64 * 4 + 2}"
        self._has_link = False

    def make(self) -> None:
        """Raises subprocess.SubprocessError."""
        _ip(f"netns add {self.name}")
        _ip(f"link add {self.near} type veth peer name {self.far} netns {self.name}")
        self._has_link = True
        for command in (
            f"addr add {self.host}/30 dev {self.near}",
            f"link set {self.near} up",
            f"-n {self.name} addr add {self._inside}/30 dev {self.far}",
            f"-n {self.name} link set {self.far} up",
            f"-n {self.name} link set lo up",
        ):
            _ip(command)

    def remove(self) -> None:
        # The interfaces first: those of a removed namespace go a while later, and their names are taken until then.
        if self._has_link:  # or another's has that name
            with suppress(subprocess.SubprocessError):
                _ip(f"link del {self.near}")
        remove_namespace(self.name)

    def unplug(self) -> None:
        """Nothing passes, either way, and nobody is told."""
        _ip(f"link set {self.near} down")

    def plug(self) -> None:
        _ip(f"link set {self.near} up")


def remove_namespace(name: str) -> None:
    """Its interfaces go with it, after a while. Nothing happens when it is gone already."""
    with suppress(subprocess.SubprocessError):
        _ip(f"netns del {name}")


def _ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, capture_output=True, timeout=10)


@functools.cache
def has_namespaces() -> bool:
    """Whether we may make network namespaces here: root, with iproute2, outside a locked-down container."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    tried = Namespace(tried=True)
    try:
        tried.make()
    except subprocess.SubprocessError:
        return False
    finally:
        tried.remove()
    return True


class Disk:
    """A small file system in memory for a server's data, that can be filled (root only)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def mount(self) -> None:
        self.folder.mkdir(mode=0o755)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8g,mode=755", "tmpfs", str(self.folder)], check=True, timeout=10
        )

    def fill(self) -> None:
        """Leave less than 64 kB free."""
        used = shutil.disk_usage(self.folder).used
        self._resize(f"{used // 1024 + 64}k")

    def free(self) -> None:
        self._resize("8g")

    def _resize(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True, timeout=10)

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=False, timeout=10)


def can_mount() -> bool:
    """Whether we may mount a file system here."""
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        tried = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
        if tried.returncode == 0:
            subprocess.run(["umount", folder], check=False)
        return tried.returncode == 0
