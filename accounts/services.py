"""Users' tokens and the first operator."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.contrib.auth.models import Group, User
from django.db import transaction

from accounts.models import ApiToken
from accounts.permissions import ADMIN, ensure_groups
from mmproject.errors import UserError

OPERATOR_USERNAME = "operator"
OPERATOR_TOKEN_NAME = "operator.json"  # noqa: S105 - its name, and where it is kept
TOKEN_PREFIX = "mm_"  # noqa: S105 - so that a leaked one is recognised for what it is
TOKEN_BYTES = 32
PASSWORD_BYTES = 15


class UnknownUser(UserError):
    """There is no such user."""

    exit_code = 2
    code = "unknown_user"


class UnknownToken(UserError):
    """There is no such token."""

    exit_code = 2
    code = "unknown_token"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the first operator signs in with. Shown once; afterwards only operator.json has it."""

    username: str
    password: str
    token: str


def token_hash(token: str) -> str:
    """What is kept of a token: its SHA-256, in hex."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def create_token(*, username: str, name: str) -> str:
    """A new token of this user; the only time that it is seen. Raises UnknownUser."""
    user = User.objects.filter(username=username, is_active=True).first()
    if user is None:
        raise UnknownUser(f"there is no active user {username}")
    return _new_token(user, name)


def revoke_token(token_id: int) -> None:
    """End a token; what caches it notices within seconds (accounts.auth). Raises UnknownToken."""
    deleted, _ = ApiToken.objects.filter(pk=token_id).delete()
    if not deleted:
        raise UnknownToken(f"there is no token {token_id}")


def ensure_operator(*, path: Path, url: str) -> Credentials | None:
    """See to it that somebody can sign in: a user `operator` whose login is in the file at `path` (mode 0600).

    New credentials are made, kept and returned when there is no such user yet, or when the file is gone: nobody is
    locked out. Otherwise only the file's url is brought up to date, and None is returned.
    """
    kept = _read(path)
    exists = User.objects.filter(username=OPERATOR_USERNAME).exists()
    if exists and kept is not None:
        if kept["url"] != url:
            _write(path, {**kept, "url": url})
        return None
    credentials = _new_operator()
    _write(
        path,
        {
            "url": url,
            "username": credentials.username,
            "password": credentials.password,
            "token": credentials.token,
        },
    )
    return credentials


def reset_operator(*, path: Path) -> Credentials:
    """Give the operator a new password and token, the old ones ending, and keep them in the file at `path`."""
    kept = _read(path)
    credentials = _new_operator()
    url = kept["url"] if kept else ""
    _write(
        path,
        {
            "url": url,
            "username": credentials.username,
            "password": credentials.password,
            "token": credentials.token,
        },
    )
    return credentials


def _new_operator() -> Credentials:
    """The user, made or found, with a new password and token. One commit, before the file that tells of it."""
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    with transaction.atomic():
        user, is_new = User.objects.select_for_update().get_or_create(username=OPERATOR_USERNAME)
        user.set_password(password)
        user.is_active = True
        user.is_staff = True  # may open the admin; what it may do there is what its group may
        user.save()
        if is_new:
            ensure_groups()
            user.groups.add(Group.objects.get(name=ADMIN))
        ApiToken.objects.filter(user=user, name=OPERATOR_TOKEN_NAME).delete()
        token = _new_token(user, OPERATOR_TOKEN_NAME)
    return Credentials(OPERATOR_USERNAME, password, token)


def _new_token(user: User, name: str) -> str:
    token = TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    ApiToken.objects.create(user=user, name=name, token_hash=token_hash(token))
    return token


def _read(path: Path) -> dict[str, str] | None:
    """The kept credentials, or None when there are none that can be used."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    wanted = ("url", "username", "password", "token")
    whole = isinstance(kept, dict) and all(isinstance(kept.get(key), str) for key in wanted)
    return kept if whole else None


def _write(path: Path, content: dict[str, Any]) -> None:
    """Replace the file as a whole, readable by its owner only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
