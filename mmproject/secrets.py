"""Random secrets that outlive a restart, one file each below var/secrets (0700, files 0600)."""

from __future__ import annotations

import hashlib
import os
import secrets
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mmproject.errors import UsageError


def kept_secret(var: Path, name: str) -> str:
    """Return the secret `name`, making it the first time.

    Two processes that make it at the same time get the same one: the file appears whole, by link(2), or not at all.
    Raises UsageError when it is another user's.
    """
    folder = var / "secrets"
    path = folder / name
    try:
        return _kept(folder, path)
    except PermissionError as error:
        raise UsageError(
            f"{error.filename} belongs to another user: run this as the one who started the system, or set MM_VAR"
        ) from error


def _kept(folder: Path, path: Path) -> str:
    name = path.name
    if not path.exists():
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # `parents` alone would follow the umask
        folder.mkdir(mode=0o700, exist_ok=True)
        draft = folder / f".{name}.{os.getpid()}.{secrets.token_hex(4)}"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another process was first; its secret is the one
        finally:
            draft.unlink()
    return path.read_text().strip()


def role_password(var: Path, admin_url: str, role: str) -> str:
    """The password of a database role, derived and not stored.

    Everyone who holds the admin's URL derives the same, so a second clone or the tests on the same server do not
    take a running system's passwords away. An admin without a password falls back on a random key below `var`.
    Slow to compute on purpose: whoever has a node's URL must not be able to try out passwords for the admin's.
    """
    key = unquote(urlsplit(admin_url).password or "") or kept_secret(var, "roles")
    return _derived(key, role)


@cache
def _derived(key: str, role: str) -> str:
    return hashlib.scrypt(key.encode(), salt=f"mm:{role}".encode(), n=2**14, r=8, p=1, dklen=32).hex()
