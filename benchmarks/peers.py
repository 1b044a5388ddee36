"""The environment of the peers that benchmarks compare with: `python -m benchmarks.peers` makes `.venv-peers`, once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv-peers"
PYTHON = FOLDER / "bin" / "python"
REQUIREMENTS = ROOT / "benchmarks" / "peers.txt"


def main() -> int:
    stamp = FOLDER / ".installed"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == REQUIREMENTS.read_text(encoding="utf-8"):
        print(f"{FOLDER.name} is ready")
        return 0
    subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True)
    install = [str(PYTHON), "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "-r", str(REQUIREMENTS)]
    subprocess.run(install, check=True)
    stamp.write_text(REQUIREMENTS.read_text(encoding="utf-8"), encoding="utf-8")
    print(f"{FOLDER.name} is ready")
    return 0


if __name__ == "__main__":
    sys.exit(main())
