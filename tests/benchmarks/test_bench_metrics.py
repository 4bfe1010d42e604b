"""The metrics benchmark measures the same thing on both sides."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.bench_metrics import COLUMNS, largest_difference, make_rows, measure, sklearn_aucs
from benchmarks.harness import Table
from msr_models.evaluation.metrics import grouped_auc


@pytest.mark.parametrize("tied", [False, True])
def test_both_sides_have_the_same_aucs(tied: bool) -> None:
    table = Table(title="t", columns=COLUMNS)
    seconds = measure(make_rows(3000, tied=tied), table, repeat=1)
    differences = [cell for row in table.rows if isinstance(cell := row[-1], float)]
    assert len(differences) == 2 and max(differences) < 1e-12
    assert len(seconds) == len(table.rows) == 4 and min(seconds.values()) > 0


def test_a_sample_holds_the_groups_it_names_and_a_difference_is_seen() -> None:
    rows = make_rows(3000, tied=False)
    sessions = int(rows.session_N.max()) + 1
    ours_G = grouped_auc(rows.prob_N, rows.label_N, rows.session_N, sessions).auc_G
    theirs = sklearn_aucs(rows, rows.session_N, sample=40)
    assert len(theirs.group_G) == 40 and largest_difference(ours_G, theirs) < 1e-12
    known = theirs.group_G[~np.isnan(theirs.auc_G)][0]
    for wrong, seen in ((ours_G[known] + 0.25, 0.25), (np.nan, np.inf)):
        changed_G = ours_G.copy()
        changed_G[known] = wrong
        assert largest_difference(changed_G, theirs) == pytest.approx(seen)
