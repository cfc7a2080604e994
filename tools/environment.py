"""Make .venv and install what is pinned into it; does nothing, quickly, when that is done already.

    python3 tools/environment.py          what it takes to run
    python3 tools/environment.py --dev    and to test and check

Runs on the machine's own Python, so it uses the standard library only.
"""

import fcntl
import hashlib
import importlib.util
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
MINIMUM = (3, 11)


def stamp(requirements: Path) -> str:
    """What must be the same for an installed set to still be right."""
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    return f"{digest} {sys.version_info.major}.{sys.version_info.minor}\n"


def is_done(requirements: Path) -> bool:
    mark = VENV / f".{requirements.stem}"
    return PYTHON.exists() and mark.exists() and mark.read_text() == stamp(requirements)


def make_venv() -> None:
    if importlib.util.find_spec("ensurepip") is None:
        sys.exit("This Python cannot make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv")
    import venv

    # A folder left by another Python, or by one that is gone, is made anew; an interrupted one is completed.
    config = VENV / "pyvenv.cfg"
    same = PYTHON.exists() and config.exists() and f"version = {sys.version.split()[0]}" in config.read_text()
    if not same:
        venv.create(VENV, clear=VENV.exists(), symlinks=True, with_pip=True)


def install(requirements: Path) -> None:
    started = time.monotonic()
    print(f"Installing {requirements.name} into .venv (half a minute or so, once) ...", flush=True)
    pip = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run([*pip, "--require-hashes", "-r", str(requirements)], cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(f"pip could not install {requirements.name}; its own message is above.")
    # What it takes to test includes, in the same versions, what it takes to run.
    done_too = [ROOT / "requirements.txt"] if requirements.stem == "requirements-dev" else []
    for each in [requirements, *done_too]:
        (VENV / f".{each.stem}").write_text(stamp(each))
    print(f"Installed in {time.monotonic() - started:.0f} s.", flush=True)


def main() -> None:
    if sys.version_info < MINIMUM:
        sys.exit(
            f"Python {MINIMUM[0]}.{MINIMUM[1]} or newer is needed, this is {sys.version.split()[0]}."
            " If you have a newer one: make PYTHON=python3.12 ..."
        )
    name = "requirements-dev.txt" if "--dev" in sys.argv[1:] else "requirements.txt"
    requirements = ROOT / name
    if is_done(requirements):
        return
    # Two makes at once would install over each other.
    with open(ROOT / ".venv.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_done(requirements):
            return
        make_venv()
        install(requirements)


if __name__ == "__main__":
    main()
