"""The report shows what the tables hold, says what is missing, and stands on its own."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import date, timedelta
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from jobs.cli import StepArgs, StepOptions
from jobs.plotting import svg
from jobs.report import step, write_report
from jobs.reporting.collect import NO_SHARING, SELECTED, SHARE_ALL, ReportData, collect
from jobs.reporting.page import render
from jobs.reporting.summary import summarise
from lake.locations import artifact_path
from lake.reader import read_table
from lake.rows import read_rows
from msr_models.evaluation.calibration import fit_calibration
from msr_models.evaluation.gains import ALL_ROWS, MEAN
from schemas.errors import TableError
from schemas.load_dataset import load_dataset
from schemas.tables.evaluations import Evaluation
from schemas.tables.training_runs import TrainingRun
from tests.support.report_lake import (
    ROWS,
    SET_ID,
    build_report_lake,
    training_run,
    write_audits,
    write_features,
    write_gains,
    write_run,
    write_runs,
    write_set,
)  # fmt: skip
from tests.support.set_tables import write_drift

GENERATED = load_dataset("generated")
FIRST = GENERATED.days.start
MODEL = "shared_bottom"


def day(number: int) -> date:
    return FIRST + timedelta(days=number - 1)


@pytest.fixture(scope="module")
def data(module_lake: Path) -> ReportData:
    build_report_lake(GENERATED)
    return collect(GENERATED, [])


def texts_of(page: str) -> str:
    """The words of a page as a reader sees them, without its style."""
    return " ".join(html.unescape(re.sub(r"<style>.*?</style>|<[^>]*>", "", page, flags=re.DOTALL)).split())


def pictures_of(page: str) -> list[str]:
    return re.findall(r'<svg viewBox="[^"]*" role="img".*?</svg>', page, flags=re.DOTALL)


class Balance(HTMLParser):
    """Collects open tags that are never closed, and everything that a browser would fetch."""

    VOID = ("meta", "line", "rect", "circle", "polygon", "polyline", "br", "link", "img")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href") and tag != "a"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_the_page_is_self_contained_and_well_formed(data: ReportData) -> None:
    page = render(data)
    balance = Balance()
    balance.feed(page)
    assert balance.open == [] and balance.wrong == [] and balance.fetched == []
    assert "<script" not in page and "url(" not in page and "@import" not in page


def test_every_picture_is_valid_and_says_what_it_shows(data: ReportData) -> None:
    pictures = pictures_of(render(data))
    assert len(pictures) == 10
    for picture in pictures:
        root = ElementTree.fromstring(picture)
        assert root[0].tag == "title" and root[1].tag == "desc" and root[0].text and root[1].text
        width, height = (float(v) for v in root.attrib["viewBox"].split()[2:])
        for mark in root.iter("circle"):
            assert 0 <= float(mark.attrib["cx"]) <= width and 0 <= float(mark.attrib["cy"]) <= height
        assert "nan" not in picture


def test_the_numbers_are_those_of_the_tables(data: ReportData) -> None:
    rows = read_rows(GENERATED, Evaluation, days=[day(10)])
    auc = {(r.arm, r.is_selected, r.scenario_id): r.auc for r in rows if r.split == "test"}
    assert data.auc(MODEL, "2026-01-10", NO_SHARING, 0) == auc["mt_backbone", False, 0]
    assert data.auc(MODEL, "2026-01-10", SELECTED, 3) == auc["ssim", True, 3]
    assert data.auc(MODEL, "2026-01-10", SHARE_ALL, ALL_ROWS) == auc["mt_backbone_s", False, -1]
    means = [r.mean_scenario_auc for r in rows if r.is_selected and r.scenario_id == -1]
    assert [data.auc(MODEL, "2026-01-10", SELECTED, MEAN)] == means
    assert f"<td>{auc['ssim', True, 3]:.4f}</td>" in render(data)


def test_a_scenario_without_training_rows_is_told(data: ReportData) -> None:
    last = data.test_days(MODEL)[-1]
    assert "no training rows of" not in render(data)
    manifest = json.dumps({"scenarios_without_rows": ["cart", "ads"], "table_versions": {}, "code_version": "abc"})
    chosen = [r for r in data.runs if r.model == MODEL and r.ds == last and r.is_selected]
    runs = [replace(r, manifest=manifest) if r in chosen else r for r in data.runs]
    assert chosen and f"On {last} there were no training rows of cart, ads" in render(replace(data, runs=runs))


def test_means_skip_a_scenario_without_auc_and_the_page_counts_it(data: ReportData) -> None:
    assert data.auc(MODEL, "2026-01-08", SELECTED, 3) is None
    known = [data.auc(MODEL, f"2026-01-{d}", SELECTED, 3) for d in ("09", "10")]
    assert data.mean_auc(MODEL, SELECTED, 3) == pytest.approx(np.mean([v for v in known if v is not None]))
    assert "all their rows have one class: 1." in render(data)


def test_gains_over_the_floor_stand_with_their_intervals(lake: Path) -> None:
    days = build_report_lake(GENERATED)
    assert "No floor was evaluated" in texts_of(render(collect(GENERATED, [])))
    write_gains(GENERATED, days)
    found = collect(GENERATED, [])
    text = texts_of(render(found))
    assert "+0.0500+0.0400 to +0.0600" in text and "No floor was evaluated" not in text
    mean = found.mean_gain(MODEL, "floor", "auc", 0)
    assert mean is not None and mean.estimate == pytest.approx(0.05)
    assert mean.high == pytest.approx(0.05 + 0.01 / 3**0.5), "three days, taken as independent"
    assert f"+0.0500 [{0.05 - 0.01 / 3**0.5:+.4f}" in summarise(found)
    assert found.gain(MODEL, f"{days[0]}", "mt_backbone", "auc", 0) is None


def test_reliability_and_curves_before_and_after_calibration(lake: Path) -> None:
    (last,) = build_report_lake(GENERATED)[-1:]
    run = next(r for r in read_rows(GENERATED, TrainingRun, days=[last]) if r.is_selected)
    rng, rows = np.random.default_rng(0), 2_000
    prob, scenario = rng.random(rows), rng.integers(0, 3, rows)
    fitted = fit_calibration("platt", prob, rng.random(rows) < prob / 2, scenario, GENERATED.scenario.names)
    assert "The calibration of the newest run was not found" in texts_of(render(collect(GENERATED, [])))
    path = artifact_path(GENERATED, run.checkpoint_uri).with_name("calibration.json")
    path.parent.mkdir(parents=True)
    path.write_text(fitted.to_json(), encoding="utf-8")
    data = collect(GENERATED, [])
    assert data.calibrations[MODEL] == fitted
    predicted = {(r.stage, r.scenario_id): r.bins[0][0] for r in data.reliability}
    assert predicted["before calibration", 0] == pytest.approx(1.5 * predicted["after calibration", 0])
    text = texts_of(render(data))
    assert f"use the curve of all rows: {GENERATED.scenario.names[3]}." in text
    assert f"σ({fitted.curves[0].slope:.3f} z {fitted.curves[0].intercept:+.3f})" in text


def test_share_rates_are_counted_from_masks_and_labels(data: ReportData) -> None:
    assert data.shared is not None and data.shared.unlabelled_rows == 0
    masks = read_table(GENERATED, "shared_instance_masks").to_pandas()
    features = read_table(GENERATED, "scenario_features", columns=["ds", "instance_id", "label"]).to_pandas()
    joined = masks.merge(features, on=["ds", "instance_id"])
    for k, share in enumerate(data.shared.shares):
        own = joined[joined.scenario_id == k]
        assert share.rate() == pytest.approx(own.is_shared.mean())
        assert share.rate(1) == pytest.approx(own[own.label == 1].is_shared.mean())
    assert np.allclose(data.shared.window_histogram.sum(axis=1), 1)


def test_the_summary_counts_every_row(data: ReportData) -> None:
    text = summarise(data)
    assert f"  total       {10 * ROWS:>7}" in text and "quarantined for: bad_label 140, duplicate 145" in text
    assert SET_ID in text and "ratio chosen: 2026-01-08: 0.3" in text
    assert sum(a.rows_in - a.rows_published - a.rows_quarantined for a in data.audits) == 0


def test_a_range_narrows_the_days(data: ReportData) -> None:
    assert [a.ds for a in collect(GENERATED, [day(9), day(10)]).audits] == ["2026-01-09", "2026-01-10"]


@pytest.mark.parametrize(
    ("span", "expected"),
    [((0.0, 1.0), [0, 0.2, 0.4, 0.6, 0.8, 1.0]), ((0.71, 0.74), [0.71, 0.72, 0.73, 0.74]), ((0, 24_000), None)],
)
def test_ticks_are_round_and_inside(span: svg.Range, expected: list[float] | None) -> None:
    ticks = svg.nice_ticks(span, 5 if expected != [0.71, 0.72, 0.73, 0.74] else 3)
    assert all(span[0] <= t <= span[1] for t in ticks) and 3 <= len(ticks) <= 7
    assert expected is None or ticks == pytest.approx(expected)


def test_each_part_may_be_missing(lake: Path) -> None:
    write_audits(GENERATED, [day(1), day(2)], quarantined=0)
    page = texts_of(render(collect(GENERATED, [])))
    assert "No evaluation yet" in page and "No shared-instance set with masks yet" in page and "No run yet" in page
    assert "No row was quarantined" in page
    write_features(GENERATED, [day(3)])
    write_set(GENERATED, [day(3)], status="rejected")
    assert f"Rejected: {SET_ID} (shares nothing)." in texts_of(render(collect(GENERATED, [])))
    write_run(GENERATED, training_run("2026-01-05", shared_set_id=None))
    assert "No evaluation yet" in render(collect(GENERATED, []))
    assert "none with masks yet" in summarise(collect(GENERATED, []))
    write_runs(GENERATED, [day(8)], ratios=(0.0,))
    page = texts_of(render(collect(GENERATED, [])))
    assert "Only one ratio was trained" in page and "There is only one test day" in page
    assert "no AUC: the day's rows have one class" in page


def test_days_that_drifted_are_shown_with_their_figures(lake: Path) -> None:
    build_report_lake(GENERATED)
    assert "No day after the set's window has been scored yet" in texts_of(render(collect(GENERATED, [])))
    write_drift(GENERATED, SET_ID, day(8), is_drifted=False)
    write_drift(GENERATED, SET_ID, day(9), is_drifted=True)
    write_drift(GENERATED, "another", day(10), is_drifted=True)
    found = collect(GENERATED, [])
    assert [(d.ds, [part.scenario_id for part in d.drifted]) for d in found.drift] == [
        ("2026-01-08", []),
        ("2026-01-09", [0]),
    ]
    page, name = render(found), GENERATED.scenario.names[0]
    text = texts_of(page)
    assert f"2026-01-09 drifted: {name} (PSI 9.000, shared 50.0 % -> 50.0 %)" in text
    assert "2026-01-10 drifted" not in text and "2026-01-08 drifted" not in text
    assert "2026-01-08: PSI 0.000, shared 50.0 %; 2026-01-09: PSI 0.000, shared 50.0 %, drifted" in text
    assert "drift: 1 of 2 later days flagged" in summarise(found)
    for picture in pictures_of(page):
        ElementTree.fromstring(picture)
    assert [d.ds for d in collect(GENERATED, [day(9)]).drift] == ["2026-01-09"]


def test_the_page_states_which_objective_chose_the_shared_rows(data: ReportData) -> None:
    assert data.shared is not None and data.shared.shared_set.objective == "reference"
    assert "This is not the SSIM paper's literal joint loss" in texts_of(render(data))
    literal = replace(data.shared, shared_set=replace(data.shared.shared_set, objective="joint"))
    assert "This is the SSIM paper's literal joint loss" in texts_of(render(replace(data, shared=literal)))


def test_no_text_becomes_markup(data: ReportData, lake: Path) -> None:
    """Names come from YAMLs and logs: in the page's words, in figures and in tips."""
    name = '<b>&"'
    values = (name, *GENERATED.scenario.names[1:])
    hostile = GENERATED.model_copy(
        update={
            "description": "<b>bold & wild</b>",
            "scenario": GENERATED.scenario.model_copy(update={"values": values, "buckets": None}),
        }
    )
    assert hostile.scenario.names[0] == name
    build_report_lake(hostile)
    write_drift(hostile, SET_ID, day(8), is_drifted=True)
    page = render(collect(hostile, []))
    assert "<b>&" not in page and "&lt;b&gt;bold &amp; wild&lt;/b&gt;" in page
    assert page.count("&lt;b&gt;&amp;") > 20 and f"drifted: {name} (PSI" in texts_of(page)
    balance = Balance()
    balance.feed(page)
    assert balance.open == [] and balance.wrong == []
    assert any(name in (text.text or "") for picture in pictures_of(page) for text in ElementTree.fromstring(picture))


def test_one_data_set_is_the_index_and_several_are_linked(lake: Path) -> None:
    index = write_report("<p>one</p>", "generated")
    assert index == lake / "report" / "index.html" and index.read_text() == "<p>one</p>"
    write_report("<p>two</p>", "movielens_age")
    assert (lake / "report" / "generated" / "index.html").read_text() == "<p>one</p>"
    assert 'href="generated/index.html"' in index.read_text() and 'href="movielens_age/index.html"' in index.read_text()
    assert not list((lake / "report").rglob(".*"))


def test_the_step_prints_the_summary_and_logs_the_path(
    data: ReportData, module_lake: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    page = module_lake / "report" / "index.html"
    written = []
    for ds in (None, day(9)):
        step(StepArgs(dataset=GENERATED, days=[ds] if ds else [], options=StepOptions(ds=ds)))
        assert capsys.readouterr().out == summarise(data) + "\n" and str(page) in caplog.text
        written.append(page.read_bytes())
    assert written[0] == written[1] == render(data).encode(), "--ds changes nothing, and neither does the clock"


def test_a_range_without_rows_is_refused(data: ReportData) -> None:
    days = [date(2030, 1, 1), date(2030, 1, 2)]
    with pytest.raises(TableError, match=r"no tables to report on for 2030-01-01 \.\. 2030-01-02"):
        step(StepArgs(dataset=GENERATED, days=days, options=StepOptions(first=days[0], last=days[1])))


def test_an_empty_lake_is_one_line(lake: Path) -> None:
    command = [sys.executable, "-m", "jobs.report", "--dataset", "generated"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "ingest_impressions" in done.stderr and done.stderr.count("\n") == 1
