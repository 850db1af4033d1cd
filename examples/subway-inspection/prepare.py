#!/usr/bin/env python3
"""Install Pillow into .venv beside this file, where process.py looks for it.

Run it as often as you like: it does its work once for each version of Python and Pillow, and
says what it did in one line. Where it cannot (no network, no venv module) it leaves nothing
behind and still exits with 0, because process.py works without Pillow: it then checks
integrity and size only.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

VENV = Path(__file__).resolve().parent / ".venv"
# Says what .venv holds. It is also there, empty, while .venv is being made: without this file
# the directory is somebody else's and is not touched.
MARKER = VENV / "prepared-by-prepare.py"

# 11.3.0 is the last Pillow for Python 3.9.
PILLOW = "Pillow==11.3.0" if sys.version_info < (3, 10) else "Pillow==12.3.0"
CONTENTS = f"{PILLOW} for Python {sys.version_info.major}.{sys.version_info.minor}"

MAKE_SECONDS = 120
INSTALL_SECONDS = 300


class Failed(Exception):
    """A step did not work; the message is what its program said last."""


def main() -> int:
    if VENV.exists() and not MARKER.exists():
        print(".venv was not made by prepare.py and is left as it is")
    elif MARKER.exists() and MARKER.read_text(encoding="utf-8") == CONTENTS:
        print(f"already prepared: {CONTENTS}")
    else:
        print(prepare())
    return 0


def prepare() -> str:
    try:
        remove()
        build()
        return f"installed {CONTENTS} into .venv"
    except (Failed, OSError) as error:
        remove()
        return f"Pillow is not available ({error}): the worker will check integrity and size only"
    except BaseException:  # interrupted
        remove()
        raise


def build() -> None:
    VENV.mkdir()
    MARKER.touch()
    run([sys.executable, "-m", "venv", str(VENV)], MAKE_SECONDS)
    run([venv_python(), "-m", "pip", *PIP_INSTALL, PILLOW], INSTALL_SECONDS)
    MARKER.write_text(CONTENTS, encoding="utf-8")


PIP_INSTALL = (
    "install",
    "--quiet",
    "--no-input",
    "--disable-pip-version-check",
    "--only-binary=:all:",  # a build from source would need a compiler and minutes
    "--retries=1",
    "--timeout=15",
)


def venv_python() -> str:
    return str(VENV / "bin" / "python")


def run(command: list[str], seconds: int) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"no end after {seconds} s") from error
    if done.returncode != 0:
        said = done.stdout.strip().splitlines()
        raise Failed(said[-1].strip() if said else f"exit code {done.returncode}")


def remove() -> None:
    shutil.rmtree(VENV, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
