"""The schemas of presets and of claims for editors, and the page about their keys."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY, Project
from jsonschema import Draft7Validator
from mistakes import MISTAKES, Mistake

from fspkd.config.load import load_preset, preset_files
from fspkd.config.page import PAGE, page
from fspkd.config.results import Claims
from fspkd.config.schema import (
    CLAIMS_SCHEMA,
    SCHEMA,
    claims_schema,
    models,
    preset_schema,
    schema_text,
)
from fspkd.errors import UserError
from fspkd.plan import Plan

VALIDATOR, CLAIMS_VALIDATOR = Draft7Validator(preset_schema()), Draft7Validator(claims_schema())
MADE = {
    SCHEMA: schema_text(preset_schema()),
    CLAIMS_SCHEMA: schema_text(claims_schema()),
    PAGE: page(),
}
PAPERS = ("fsp", "fitnets")
CONFIG = REPOSITORY / "config"
PRESETS = preset_files(CONFIG)
SHIPPED = {name: CONFIG / f"{name}.yaml" for name in PRESETS if name.split("/")[0] in PAPERS}
CLAIMS = {f"{paper}/claims": CONFIG / paper / "claims.yaml" for paper in PAPERS}
PART = """
extends: tiny
results: results/child
data:
  images: {size: 16, augment: {pad: 2}}
networks:
  net: {width: 8}
divide_schedules: {images: 2}
schedules:
  short: [{until: 4, rate: 1e-2}]
training:
  optimizer: {momentum: 0.5}
rows:
  student: {nets: 1, stage1: {weight: 0.5}}
  fitnet: {stage1: null, stage2: {method: kd, teacher: teacher/1, schedule: short, temperature: 4}}
tables:
  table1: {reference: null, rows: {Twin: teacher/2}}
figures:
  figure3: null
timings:
  timing: null
alternatives:
  choices:
    title: Choices
    row: teacher
    changes: {slow: {stage2: {schedule: short}}}
"""


def mistakes_in(content: object, validator: Draft7Validator = VALIDATOR) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(content)]


@pytest.mark.parametrize(("path", "text"), MADE.items(), ids=map(str, MADE))
def test_what_is_made_from_the_models_is_up_to_date(path: Path, text: str) -> None:
    assert (REPOSITORY / path).read_text(encoding="utf-8") == text, f"{path}: the models say more; run `make schema`"


@pytest.mark.parametrize("path", [SCHEMA, CLAIMS_SCHEMA], ids=str)
def test_it_is_a_schema(path: Path) -> None:
    Draft7Validator.check_schema(json.loads(MADE[path]))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_of_the_repository_are_valid(name: str) -> None:
    assert mistakes_in(yaml.safe_load(PRESETS[name].read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("name", [*SHIPPED, *CLAIMS])
def test_files_of_the_papers_name_their_schema(name: str) -> None:
    path, schema = (CLAIMS[name], CLAIMS_SCHEMA) if name in CLAIMS else (SHIPPED[name], SCHEMA)
    first = path.read_text(encoding="utf-8").splitlines()[0]
    wanted = f"# yaml-language-server: $schema=../{schema.name}"
    assert first == wanted, f"{path}: its first line has to be {wanted!r}, by which editors check it"


@pytest.mark.parametrize("path", [*CLAIMS.values(), PAGE], ids=str)
def test_claims_are_valid_and_mistakes_in_them_are_told(path: Path) -> None:
    text = (REPOSITORY / path).read_text(encoding="utf-8")
    text = text.split("claims.yaml -->\n\n```yaml\n")[-1].split("```")[0]
    assert mistakes_in(yaml.safe_load(text), CLAIMS_VALIDATOR) == []
    assert len(Claims.model_validate(yaml.safe_load(text)).claims) > 1
    for right, wrong in (("where:", "were:"), ("value:", "values:"), ("within: ", "within: -"), ("rows", "row")):
        assert mistakes_in(yaml.safe_load(text.replace(right, wrong)), CLAIMS_VALIDATOR)


def test_what_has_no_docstring_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a method of one's own: nothing could say in the page what it means."""
    found = models()
    del found["Hint"]["description"], found["Hint"]["properties"]["hint"]["description"]
    monkeypatch.setattr("fspkd.config.page.models", lambda: found)
    with pytest.raises(
        UserError, match=r"^Hint, Hint.hint: no docstring, which docs/presets.md shows. Write one below"
    ):
        page()


@pytest.mark.parametrize("path", ["README.md", "docs/presets.md"])
def test_presets_on_pages_are_valid(project: Project, path: str) -> None:
    blocks = (REPOSITORY / path).read_text(encoding="utf-8").split("```yaml\n")[1:]
    text = next(block.split("```")[0] for block in blocks if "extends: " in block)
    assert mistakes_in(yaml.safe_load(text)) == []
    shutil.copytree(REPOSITORY / "config", project.folder / "config", dirs_exist_ok=True)
    (project.folder / "config" / "mine.yaml").write_text(text)
    assert Plan(load_preset(project.folder / "config" / "mine.yaml")).preset.results == "results/mine"


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: f"{mistake.key}={mistake.value}")
def test_it_refuses_what_the_program_refuses(project: Project, mistake: Mistake) -> None:
    assert mistakes_in(project.content) == []
    project.set(mistake.key, mistake.value)
    assert bool(mistakes_in(project.content)) == mistake.told_by_schema


def test_numbers_may_be_text_and_entries_null(project: Project) -> None:
    project.set("training.optimizer.weight_decay", "1e-4")
    project.set("timings.timing", None)
    assert mistakes_in(project.content) == []
    assert load_preset(project.preset_path).training.optimizer.weight_decay == 1e-4
    project.set("rows", None)
    assert mistakes_in(project.content)


def test_a_file_that_extends_gives_parts(project: Project) -> None:
    child = project.folder / "config" / "child.yaml"
    child.write_text(PART)
    load_preset(child)
    content = yaml.safe_load(PART)
    assert mistakes_in(content) == []
    assert (
        mistakes_in({**content, "extends": None}) == ["$.extends: None is not of type 'string'"] * 2
    )  # in both places
    del content["extends"]
    assert any("'seed' is a required property" in mistake for mistake in mistakes_in(content))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("results:", "result:"),
        ("networks:", "network:"),
        ("size:", "sise:"),
        ("augment:", "augmentation:"),
        ("pad:", "padding:"),
        ("width:", "wide:"),
        ("{width: 8}", "{depth: 8, modules: [1, 1, 1, 1]}"),  # no network has both keys
        ("until:", "untill:"),
        ("{until: 4, rate: 1e-2}", "{rate: 1e-2}"),  # a list is replaced, so its entries must be whole
        ("momentum:", "momentun:"),
        ("nets:", "net:"),
        ("weight:", "weigth:"),
        ("temperature:", "weight:"),  # a key of fsp, not of kd
        ("method: kd", "method: dk"),
        ("reference:", "references:"),
        ("teacher/2", "teacher/0"),
        ("figure3: null", "Figure3: null"),
        ("momentum: 0.5", "momentum: null"),
        ("size: 16", "size: '16'"),
        ("{slow: {stage2", "{slow: {stage3"),
    ],
)
def test_mistakes_in_parts_are_refused_at_any_depth(right: str, wrong: str) -> None:
    assert PART.count(right) == 1
    assert mistakes_in(yaml.safe_load(PART.replace(right, wrong)))
