"""Files of presets: YAML, what extends what, and which file a message names."""

from pathlib import Path

import pytest
import yaml
from conftest import Project

from fspkd.config.load import load_preset, read_yaml
from fspkd.errors import UserError
from fspkd.plans import load_plans, plan_for
from fspkd.workflow.results import ResultRule


def test_scientific_notation_without_a_point_is_a_number(project: Project) -> None:
    text = project.preset_path.read_text()
    project.preset_path.write_text(text.replace("weight_decay: 0.0001", "weight_decay: 1e-4"))
    assert load_preset(project.preset_path).training.optimizer.weight_decay == 1e-4


def test_what_a_table_says_decides_it_and_its_picture(project: Project) -> None:
    """What marks mean, and what a demonstration is about: neither changes a number."""
    table = {**project.content["tables"]["table1"], "marks": {"*": "second stage only"}}
    changes = {"tables.table1": table, "demonstration": True, "about": "Nothing but that it runs."}
    seen = []
    for key, value in changes.items():
        project.set(key, value)
        rule = ResultRule(project.plan(), "table", "table1")
        seen.append((rule.decided_by(), rule.picture_decided_by))
    for kind in (0, 1):
        assert len({str(of[kind]) for of in seen}) == 3


def test_a_merge_key_takes_the_keys_of_another_mapping(project: Project) -> None:
    project.preset_path.write_text("a: &a {x: 1, y: 1}\nb: {<<: *a, y: 2}\n")
    assert read_yaml(project.preset_path)["b"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("rows.student.stage2", "cross_entropy", r"= 'cross_entropy': must be a mapping of keys to values"),
        ("tables.table1.rows", {20: "teacher"}, r"= 20: must be text; put quotes around it"),
        ("training.batch_size", "1e2", r"= '1e2': must be a whole number, such as 10000"),
        ("schedules.short", {"until": 8}, r"must be a list"),
        ("titel", "x" * 500, r"titel = 'x{76}\.\.\.: unknown key"),
    ],
)
def test_values_of_another_kind_are_told_in_words_of_yaml(project: Project, key: str, value: object, told: str) -> None:
    project.set(key, value)
    with pytest.raises(UserError, match=told):
        project.plan()


def test_a_preset_of_another_ending_is_told(project: Project) -> None:
    project.preset_path.with_name("mine.yml").write_text("extends: tiny\nresults: results/mine\n")
    (problem,) = load_plans()[1]
    assert str(problem) == "config/mine.yml: a preset's file name must end in .yaml. Rename it."


def test_a_key_given_twice_is_refused(project: Project) -> None:
    project.preset_path.write_text(project.preset_path.read_text() + "\nseed: 3\n")
    with pytest.raises(UserError, match=r"tiny.yaml: is not valid YAML: key 'seed' is given twice"):
        project.plan()


def test_file_that_is_no_yaml_or_no_mapping_or_missing(project: Project) -> None:
    project.preset_path.write_text("a: [1")
    with pytest.raises(UserError, match=r"tiny.yaml: is not valid YAML"):
        project.plan()
    project.preset_path.write_text("- 1\n")
    with pytest.raises(UserError, match=r"tiny.yaml: must be a mapping"):
        project.plan()
    with pytest.raises(UserError, match=r"none.yaml: cannot be read"):
        load_preset(Path("none.yaml"))


def bomb() -> str:
    lists = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lists += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "\n".join(lists)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("about: " + "[" * 60 + "]" * 60, r"nested more than 50 levels deep, in line 1"),
        # would overflow libyaml's own stack
        ("about: " + "{a: " * 200_000, r"nested more than 50 levels deep, in line 1"),
        (bomb(), r"with its aliases expanded it has [0-9,]{15} values"),
        ("about: &a [*a]", r"an alias refers to a mapping or list that contains it, in line 1"),
        ("seed: " + "9" * 5000, r"5000 digits"),
    ],
)
def test_yaml_that_would_take_all_time_or_memory_is_refused(project: Project, text: str, told: str) -> None:
    project.preset_path.write_text(text)
    with pytest.raises(UserError, match=rf"tiny.yaml: is not valid YAML: .*{told}"):
        project.plan()


def test_aliases_as_people_use_them_are_read(project: Project) -> None:
    project.preset_path.write_text(project.preset_path.read_text() + "\nlists: [&a [1, 2], *a, {b: *a}]\n")
    with pytest.raises(UserError, match=r"lists = \[\[1, 2\], \[1, 2\], \{'b': \[1, 2\]\}\]: unknown key"):
        project.plan()


def test_a_mistake_in_what_is_extended_names_the_base(project: Project) -> None:
    (project.folder / "config" / "child.yaml").write_text("extends: tiny\nresults: results/child\n")
    project.set("training.optimizer.momentum", "much")
    with pytest.raises(UserError, match=r"config/tiny.yaml: training.optimizer.momentum = 'much'"):
        load_preset(Path("config/child.yaml"))


def test_extending_changes_keys_and_replaces_other_sources_whole(project: Project) -> None:
    text = (
        "extends: tiny\nresults: results/child\ndata: {images: {name: mine, source: imagefolder, path: x}}\nseed: 5\n"
    )
    (project.folder / "config" / "child.yaml").write_text(text)
    child, parent = load_preset(Path("config/child.yaml")), load_preset(project.preset_path)
    assert (child.seed, child.data["images"].augment.pad, child.rows) == (5, 0, parent.rows)


def test_extending_goes_on_and_not_in_a_circle(project: Project) -> None:
    config = project.folder / "config"
    (config / "child.yaml").write_text("extends: tiny\nresults: results/child\nseed: 5\n")
    (config / "grandchild.yaml").write_text("extends: child\nresults: results/grandchild\ntraining: {batch_size: 7}\n")
    preset = load_preset(Path("config/grandchild.yaml"))
    assert (preset.seed, preset.training.batch_size, preset.training.optimizer.momentum) == (5, 7, 0.9)
    (config / "child.yaml").write_text("extends: grandchild\n")
    with pytest.raises(UserError, match=r"child.yaml: extends: .* extends itself"):
        load_preset(Path("config/child.yaml"))
    for name in ("tinny", "../config/tiny", "[tiny]"):
        (config / "child.yaml").write_text(f"extends: {name}\n")
        with pytest.raises(UserError, match=r"child.yaml: extends = .*: no such preset in config/; "):
            load_preset(Path("config/child.yaml"))


def test_an_entry_named_as_a_key_that_tells_kinds_apart_replaces_nothing(project: Project) -> None:
    tables = {"method": {"title": "A table", "rows": {"A": "teacher"}}}
    child = {"extends": "tiny", "results": "results/child", "tables": tables}
    (project.folder / "config" / "child.yaml").write_text(yaml.safe_dump(child))
    assert set(load_preset(Path("config/child.yaml")).tables) == {"table1", "method"}


def test_a_preset_shows_what_it_names_and_its_children_what_they_do(project: Project) -> None:
    Path("config/child.yaml").write_text(
        "extends: tiny\nresults: results/child\nshows: [figure3]\n"
        "tables: {mine: {title: T, rows: {Teacher: teacher}}}\n"
    )
    Path("config/grandchild.yaml").write_text(
        "extends: child\nresults: results/grandchild\nfigures: {other: {kind: curves, title: T, curves: {A: teacher}}}\n"
    )
    child, grandchild = (load_preset(Path(f"config/{name}.yaml")) for name in ("child", "grandchild"))
    assert (set(child.tables), set(child.figures), set(child.timings), child.claims) == (
        {"mine"},
        {"figure3"},
        set(),
        None,
    )
    assert (set(grandchild.tables), set(grandchild.figures)) == ({"mine"}, {"figure3", "other"})
    needed = [Path(file).name for file in ResultRule(load_plans()[0]["results/child"], "summary").inputs()["results"]]
    assert needed == ["mine.csv", "mine.svg", "figure3.svg"]
    for shows, message in (("figure4", "must be a list"), ("[figure4]", "no such table, .*did you mean 'figure3'")):
        Path("config/child.yaml").write_text(f"extends: tiny\nresults: results/child\nshows: {shows}\n")
        with pytest.raises(UserError, match=rf"config/child.yaml: shows = .*: {message}"):
            load_preset(Path("config/child.yaml"))
    Path("config/child.yaml").write_text("extends: tiny\nresults: results/child\nshows: [figure3]\ntables: 5\n")
    with pytest.raises(UserError, match=r"config/child.yaml: tables = 5: "):
        load_preset(Path("config/child.yaml"))


def test_a_mistake_in_one_preset_does_not_stop_what_another_trains(project: Project) -> None:
    (project.folder / "config" / "mine.yaml").write_text("extends: tiny\nresults: results/mine\nsede: 3\n")
    assert plan_for(Path("results/tiny")).preset.name == "tiny"
    for results in ("results/mine", "results/none"):
        told = rf"^config/mine.yaml: sede = 3: unknown key.* Until this is corrected: {results}: no preset in config/"
        with pytest.raises(UserError, match=told):
            plan_for(Path(results))
    (problem,) = load_plans()[1]
    assert str(problem).startswith("config/mine.yaml: ")


def test_a_mistake_in_what_many_presets_extend_is_told_once(project: Project) -> None:
    for name in "abcde":
        Path(f"config/{name}.yaml").write_text(f"extends: tiny\nresults: results/{name}\n")
    valid = {**project.content, "results": "results/valid"}
    project.set("schedules", {"long": project.content["schedules"]["long"]})
    with pytest.raises(UserError, match=r"^config/tiny.yaml: rows.* and 1 more like these\.$"):
        load_plans()
    Path("config/valid.yaml").write_text(yaml.safe_dump(valid))
    told = r"^config/tiny.yaml: rows.* and 1 more like these\. Until this is corrected: results/none: no preset"
    with pytest.raises(UserError, match=told) as error:
        plan_for(Path("results/none"))
    assert str(error.value).count("no such entry in schedules") == 3


def test_a_schedule_that_does_not_increase_is_not_reported_for_each_of_its_rows_too(project: Project) -> None:
    project.set("schedules.long", [{"until": 20, "rate": 0.1}, {"until": 12, "rate": 0.1}])
    with pytest.raises(
        UserError, match=r"^config/tiny.yaml: schedules.long: 'until' must increase, and is \[20, 12\]\.?$"
    ):
        plan_for(Path("results/tiny"))


def test_two_presets_that_write_to_one_folder_are_refused(project: Project) -> None:
    (project.folder / "config" / "twin.yaml").write_text("extends: tiny\n")
    (problem,) = load_plans()[1]
    told = "config/twin.yaml: results = 'results/tiny': config/tiny.yaml writes there already"
    assert str(problem).startswith(told)


def test_presets_that_would_have_one_name_are_refused(project: Project) -> None:
    for number, results in enumerate(("results/a-b", "results/a/b")):
        (project.folder / "config" / f"twin{number}.yaml").write_text(f"extends: tiny\nresults: {results}\n")
    (problem,) = load_plans()[1]
    told = "config/twin1.yaml: results = 'results/a/b': would name this preset 'a-b', like config/twin0.yaml"
    assert str(problem).startswith(told)


def test_mistake_is_told_of_the_file_that_has_it(project: Project) -> None:
    """The message also names, first, the file that extends it."""
    Path("config/child.yaml").write_text(
        "extends: tiny\nresults: results/child\nschedules: {own: [{until: 5, rate: 1}]}\n"
    )
    project.set("schedules.short", [{"until": 8, "rate": 0.1}, {"until": 4, "rate": 0.01}])
    with pytest.raises(
        UserError, match=r"^config/child.yaml, in the preset it extends: config/tiny.yaml: schedules.short: 'until'"
    ):
        load_preset(Path("config/child.yaml"))
    project.set("schedules.short", [{"until": "soon", "rate": 0.1}])
    with pytest.raises(
        UserError, match=r"in the preset it extends: config/tiny.yaml: schedules.short.0.until = 'soon'"
    ):
        load_preset(Path("config/child.yaml"))


def test_a_preset_whose_base_is_not_there_is_told_once_though_others_extend_it(project: Project) -> None:
    Path("config/child.yaml").write_text("extends: tinny\nresults: results/child\n")
    for name in "ab":
        Path(f"config/{name}.yaml").write_text(f"extends: child\nresults: results/{name}\n")
    (problem,) = load_plans()[1]
    assert str(problem).startswith("config/child.yaml: extends = 'tinny'")
    with pytest.raises(UserError) as told:
        plan_for(Path("results/child"))
    assert str(told.value).count("config/child.yaml: extends = 'tinny'") == 1
