"""The summary and Snakemake's report as a reader sees them, in a headless browser without a network."""

from pathlib import Path

import pytest
from conftest import Project
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

SUMMARY = "results/tiny/summary.html"
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}

pytestmark = pytest.mark.usefixtures("not_followed")


def test_summary_and_report_can_be_read(made: Project, browser: webdriver.Chrome) -> None:
    made.set("tables.table1.marks", {"*": "a mark that is explained"})
    made.set("demonstration", True)
    made.set("tables.table1.title", "A tiny table</script><script>document.title = 'broken out'</script>")
    for options in ([], ["--report", "results/tiny/report.html"]):
        result = made.run("snakemake", SUMMARY, *options)
        assert result.returncode == 0, result.stdout + result.stderr
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
    )

    def shown() -> str:
        return browser.find_element(By.TAG_NAME, "body").text

    browser.get(Path(SUMMARY).absolute().as_uri())
    assert browser.find_element(By.TAG_NAME, "h1").text == "The results of preset tiny"
    for text in (
        "What the paper claims, and what came out",
        "claim 3",
        "A tiny table",
        "(91.75)",
        "A tiny figure",
        "The paper's time comparison",
        "float32",
    ):
        assert text in shown()
    pictures = browser.find_elements(By.TAG_NAME, "img")
    assert len(pictures) == 3  # of the claims, the table, and the figure
    for picture in pictures:
        assert browser.execute_script("return arguments[0].naturalWidth", picture) > 0
    assert "*: a mark that is explained" in shown()
    assert "a mark that is explained" in Path("results/tiny/table1.tex").read_text()
    for link in browser.find_elements(By.CSS_SELECTOR, "nav a"):
        assert browser.find_elements(By.ID, link.get_attribute("href").partition("#")[2])
    verdicts = browser.find_elements(By.CSS_SELECTOR, ".claims td:nth-child(2)")
    assert {cell.value_of_css_property("color") for cell in verdicts} == {"rgba(26, 26, 26, 1)"}, "a demonstration's"
    for link in browser.find_elements(By.CSS_SELECTOR, "details a"):
        assert Path(link.get_attribute("href").removeprefix("file://")).is_dir()
    run = made.plan().net("student/1").id
    assert run not in shown()
    for details in browser.find_elements(By.TAG_NAME, "summary"):
        details.click()
    assert run in shown()

    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    browser.get(Path(SUMMARY).absolute().as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= PHONE["width"]
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    browser.get(Path("results/tiny/report.html").absolute().as_uri())
    for category in ("Workflow", "Statistics", "Claims", "Figures", "Pictures", "Summary", "Tables", "Time"):
        WebDriverWait(browser, 60).until(lambda _, text=category: text in shown())
    assert "From images to the tables of two papers" in shown()
    assert browser.title != "broken out"
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    menu, description, graph = (
        browser.find_element(By.CSS_SELECTOR, what).rect for what in ("nav", ".prose", "#rulegraph")
    )
    assert menu["y"] + menu["height"] <= description["y"], "the menu lies over the description"
    assert description["y"] + description["height"] <= graph["y"]
    errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not errors
