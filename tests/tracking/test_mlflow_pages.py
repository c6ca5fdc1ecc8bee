"""MLflow's pages as a reader sees them, in a headless browser."""

import json
from urllib.parse import quote

import pytest
from conftest import Project
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from servers import Server

from fspkd.tracking.sync import Sync

SECONDS_TO_LOAD = 120


@pytest.fixture
def sent(made: Project, server: Server, monkeypatch: pytest.MonkeyPatch) -> Sync:
    """Everything of the tiny preset, on a server."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    sync = Sync(made.plan())
    assert sync.send_all() == []
    return sync


def test_runs_comparison_and_artifacts(sent: Sync, server: Server, browser: webdriver.Chrome) -> None:
    experiment = sent.store.experiment
    runs = {run.info.run_name: run.info.run_id for run in sent.store.client.search_runs([experiment])}
    wait = WebDriverWait(browser, SECONDS_TO_LOAD)

    def see(page: str, *texts: str) -> None:
        """Open a page and wait for all of these texts on it."""
        browser.get("about:blank")
        browser.get(f"{server.address}/#{page}")
        wait.until(lambda _: all(text in shown() for text in texts), shown())

    def shown() -> str:
        return browser.find_element(By.TAG_NAME, "body").text

    see(sent.store.page.removeprefix("/#"), "Student*", "Preset tiny", "average", "ensemble", "table1")
    rows = quote("tags.kind = 'row'")
    order = quote("metrics.`average`")
    see(
        f"/experiments/{experiment}/runs?searchFilter={rows}&orderByKey={order}",
        "Teacher",
        "Student*",
        "3 matching runs",
    )
    assert "net 1" not in shown()
    assert "Preset tiny" in shown()

    two = quote(json.dumps([runs["Teacher"], runs["Student*"]]))
    metric = quote(json.dumps("test_accuracy"))
    see(
        f"/metric?runs={two}&metric={metric}&experiments={quote(json.dumps([experiment]))}&plot_metric_keys=[{metric}]",
        "Comparing 2 Runs",
        "Teacher (test_accuracy)",
        "Student* (test_accuracy)",
    )
    lines = "return document.querySelector('.js-plotly-plot')?.data.map(line => [...line.y])"
    for name in ("Teacher", "Student*"):
        history = sent.store.client.get_metric_history(runs[name], "test_accuracy")
        values = [point.value for point in sorted(history, key=lambda point: point.step)]
        wait.until(lambda _, values=values: values in (browser.execute_script(lines) or []))

    see(f"/experiments/{experiment}/runs/{runs['table1']}/artifacts", "table1.csv", "table1.md", "figure3.png")
    browser.find_element(By.XPATH, "//*[text()='figure3.png']").click()
    picture = "return [...document.images].some(i => i.naturalWidth > 1000)"
    wait.until(lambda _: browser.execute_script(picture))

    see(f"/experiments/{experiment}/runs/{runs['Student*, net 1']}", "Starts from: student-stage1", "Parent run")
    link = browser.find_element(By.PARTIAL_LINK_TEXT, "student-stage1").get_attribute("href")
    see(link.partition("#")[2], "Student*, stage 1")
