"""The engine that each step needs, declared here for the scheduler, which may not import steps."""

from __future__ import annotations

from typing import Literal

Engine = Literal["spark", "torch", "arrow"]

# torch: may run as several processes under torchrun. arrow: deltalake and pyarrow alone, one process.
ENGINES: dict[str, Engine] = {
    "audit_tables": "spark",
    "build_behaviour_sequences": "spark",
    "build_scenario_features": "spark",
    "build_vocabularies": "spark",
    "check_sources": "spark",
    "evaluate": "arrow",
    "forget_user": "arrow",
    "hash_tables": "arrow",
    "ingest_impressions": "spark",
    "maintain_tables": "arrow",
    "needs_search": "arrow",
    "plan": "arrow",
    "quarantine": "arrow",
    "report": "arrow",
    "runs": "arrow",
    "score_shared_instances": "torch",
    "search_shared_instances": "torch",
    "shared_sets": "arrow",
    "train_target_model": "torch",
}
