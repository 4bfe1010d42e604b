"""scripts/spark_connect.sh starts a server, whatever address clients are told to use."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_server_does_not_see_its_clients_address(tmp_path: Path) -> None:
    """spark-submit refuses a master beside SPARK_REMOTE: here it only prints what it sees."""
    for name, text in {
        "venv/bin/python": f"#!/bin/sh\necho {tmp_path}/spark\n",
        "spark/bin/spark-submit": '#!/bin/sh\necho "remote: ${SPARK_REMOTE-none}"\n',
        "jars/delta-spark_x.jar": "",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
    own = {"MSR_VENV": str(tmp_path / "venv"), "MSR_SPARK_JARS": str(tmp_path / "jars"), "SPARK_REMOTE": "sc://here:1"}
    run = ["scripts/spark_connect.sh", "run"]
    done = subprocess.run(run, cwd=ROOT, env={**os.environ, **own}, capture_output=True, text=True, check=True)
    assert done.stdout == "remote: none\n"
