"""The calls to the local Airflow's REST API that the demo needs."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

OPEN_STATES = {"queued", "running"}


class AirflowApi:
    """Client of the Airflow that `scripts/airflow.sh up` started on this machine (no log-in)."""

    def __init__(self, port: int) -> None:
        self._root = f"http://127.0.0.1:{port}"
        self._token = self._call("GET", "/auth/token")["access_token"]

    def dag_runs(self, dag_id: str) -> list[dict[str, Any]]:
        """All runs of a DAG, oldest first."""
        return list(self._pages(f"/dags/{dag_id}/dagRuns", "dag_runs", order_by="id"))

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The task instances of one run."""
        return list(self._pages(f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}/taskInstances", "task_instances"))

    def has_dag(self, dag_id: str) -> bool:
        """Whether Airflow has parsed this DAG."""
        return any(dag["dag_id"] == dag_id for dag in self._pages("/dags", "dags"))

    def import_errors(self) -> list[str]:
        """One line per DAG file that cannot be imported."""
        errors = self._pages("/importErrors", "import_errors")
        return [f"{e['filename']}: {e['stack_trace'].splitlines()[-1]}" for e in errors]

    def pause(self, dag_id: str, paused: bool) -> None:
        """Pause or unpause a DAG; a paused DAG ignores the assets that others publish."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": paused})

    def close_backfills(self, dag_id: str) -> None:
        """Close open backfills at once; the scheduler looks for finished ones only twice a minute."""
        for backfill in self._pages("/backfills", "backfills", dag_id=dag_id):
            if backfill["completed_at"] is None:
                self._call("PUT", f"/api/v2/backfills/{backfill['id']}/cancel")

    def end_open_work(self, dag_ids: list[str]) -> int:
        """End the backfills and runs that an interrupted demo left open; returns the number of runs."""
        ended = 0
        for dag_id in dag_ids:
            self.close_backfills(dag_id)
            for run in self.dag_runs(dag_id):
                if run["state"] in OPEN_STATES:
                    path = f"/api/v2/dags/{dag_id}/dagRuns/{_quoted(run['dag_run_id'])}"
                    self._call("PATCH", path, {"state": "failed"})
                    ended += 1
        return ended

    def log_lines(self, dag_id: str, run_id: str, task_id: str, try_number: int) -> list[str]:
        """Output of a task's step."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{_quoted(run_id)}/taskInstances/{task_id}/logs/{try_number}"
        content = self._call("GET", f"{path}?full_content=true")["content"]
        return [e["event"] for e in content if str(e.get("logger", "")).endswith("StepOperator")]

    def _pages(self, path: str, key: str, **query: str) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            text = urllib.parse.urlencode({"limit": 100, "offset": offset, **query})
            page = self._call("GET", f"/api/v2{path}?{text}")
            yield from page[key]
            offset += len(page[key])
            if not page[key] or offset >= page["total_entries"]:
                return

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"Content-Type": "application/json"}
        if path.startswith("/api/"):
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._root + path, data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")


def _quoted(run_id: str) -> str:
    return urllib.parse.quote(run_id, safe="")
