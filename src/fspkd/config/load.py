"""Reading presets: YAML files that extend each other, and an explanation of what is wrong in them. Imports no torch."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fspkd.config.alternatives import as_written, laid_out
from fspkd.config.merge import discriminators, merge
from fspkd.config.preset import RESULTS, SECTIONS, SET_BY_LOADER, Preset
from fspkd.config.references import problems
from fspkd.config.results import Claims
from fspkd.errors import UserError
from fspkd.settings import suggest

CONFIG = Path("config")
MERGE = "tag:yaml.org,2002:merge"  # the key <<, which takes the keys of another mapping
LONGEST, MOST = 80, 3  # characters of a value, and findings of one kind, in a message
EXTENDED = ", in the preset it extends: "  # between a preset's file and the one that has the mistake
# Advice on values of a wrong type, where pydantic's messages name Python's types.
TYPES = {
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "must be a mapping of keys to values"),
    "tuple_type": "must be a list",
    "string_type": "must be text; put quotes around it",
    "int_type": "must be a whole number, such as 10000",
    "too_short": "must not be empty",
}
HIDDEN = re.compile(r"(^|/)\.")
DEEPEST, LARGEST = 50, 100_000  # nesting of mappings and lists; values in a file


class _UniqueKeyLoader(yaml.CSafeLoader):  # every job reads all presets, which took PyYAML's own parser three seconds
    """Refuses a key that is given twice, of which PyYAML would silently keep the last value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != MERGE]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


@cache  # since many presets extend the same files
def _loaded(text: str) -> object:
    """The content of YAML.

    Raises ValueError if nesting or aliases exceed what any preset needs, before that costs time or overflows the stack.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} levels deep, in line {event.start_mark.line + 1}")
    loader = _UniqueKeyLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if (size := _expanded(node, {})) > LARGEST:
            raise ValueError(f"with its aliases expanded it has {size:,} values, more than the limit of {LARGEST:,}")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _expanded(node: yaml.Node, sizes: dict[int, int | None]) -> int:
    """The number of values in a node, aliases expanded; raises ValueError if it contains itself."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in sizes:
        sizes[id(node)] = None  # in progress
        is_mapping = isinstance(node, yaml.MappingNode)
        below = [part for pair in node.value for part in pair] if is_mapping else node.value
        sizes[id(node)] = 1 + sum(_expanded(part, sizes) for part in below)
    size = sizes[id(node)]
    if size is None:
        raise ValueError(f"an alias refers to a mapping or list that contains it, in line {node.start_mark.line + 1}")
    return size


def read_yaml(path: Path) -> dict:
    """The mapping in a YAML file, not to be changed: files with the same text share it. Raises UserError if there is none."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: is not a file. Remove it.")
        content = _loaded(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: must be a mapping of keys to values, and is of type {type(content).__name__}.")
    return content


def explain(
    error: ValidationError, chain: list[tuple[Path, dict]], merged: dict, made_from: dict[str, str] | None = None
) -> str:
    """One paragraph for pydantic's findings: file, key, value, and what to do; `made_from` comes from `laid_out`."""
    findings, tags = [], discriminators(Preset) | discriminators(Claims)
    for item in error.errors():
        if item["type"] == "too_short" and item["input"]:
            continue  # pydantic counts only a tuple's valid items; the others are reported
        content: Any = merged
        keys, is_key = [], True
        for position, key in enumerate(item["loc"], 1):
            # For a member of a union, its tag's value comes first, even if there is a key of that name.
            is_tag = is_key and isinstance(content, dict) and key in [content.get(tag) for tag in tags]
            known = range(len(content)) if isinstance(content, list) else content if isinstance(content, dict) else ()
            is_key = not is_tag and key in known
            if is_key or (position == len(item["loc"]) and item["type"] == "missing"):
                keys.append(str(key))
                content = content[key] if is_key else None
        value = f" = {_shortened(repr(item['input']))}"
        advice = TYPES.get(item["type"], f"{item['msg'][0].lower()}{item['msg'][1:]}")
        match item["type"]:
            case "extra_forbidden":
                advice = "unknown key; remove it or correct its name"
            case "missing":
                value, advice = "", "missing; this key must be given"
            case "union_tag_invalid" | "union_tag_not_found":
                tag = item["ctx"]["discriminator"].strip("'")
                keys.append(tag)
                value = f" = {item['input'].get(tag)!r}" if tag in item["input"] else ""
                advice = (
                    f"must be one of {item['ctx']['expected_tags']}" if value else "missing; this key must be given"
                )
            case "value_error":
                value, advice = "", str(item["ctx"]["error"])
        key = as_written(".".join(keys), made_from or {})
        where = f" {key}{value}:" if keys else ""
        findings.append(f"{_where(key, chain)}:{where} {advice}")
    return " ".join(finding if finding.endswith("?") else f"{finding}." for finding in findings)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _where(key: str, chain: list[tuple[Path, dict]]) -> str:
    """The file with the longest part of a dotted key, after the preset's own file if that only extends it."""
    file, own = _file_with(key, chain), chain[0][0]
    return str(file) if file == own else f"{own}{EXTENDED}{file}"


def _file_with(key: str, chain: list[tuple[Path, dict]]) -> Path:
    """The file with the longest part of a dotted key; on a tie, the one that extends the others."""

    def depth(content: object) -> int:
        found = 0
        for part in key.split("."):
            if not isinstance(content, dict) or part not in content:
                break
            content, found = content[part], found + 1
        return found

    return max(chain, key=lambda item: depth(item[1]))[0]


def preset_files(config: Path) -> dict[str, Path]:
    """The files of presets in a folder, by the names that `extends` uses, such as fsp/mini.

    These are all YAML files that are not hidden, as editors' copies are, except those of claims, which have neither
    `results` nor `extends` and are named as `claims` by a preset or have only that key. A file that cannot be read counts as
    a preset unless one names it so.
    """

    def looked_at(path: Path) -> dict:
        try:
            return read_yaml(path)
        except UserError:
            return {}

    files = [path for path in sorted(config.rglob("*.yaml")) if not HIDDEN.search(str(path.relative_to(config)))]
    contents = {path: looked_at(path) for path in files}
    named = {config / claims for content in contents.values() if isinstance(claims := content.get("claims"), str)}

    def is_preset(path: Path, content: dict) -> bool:
        is_of_claims = path in named or content.keys() == {"claims"}
        return "results" in content or "extends" in content or not is_of_claims

    files = [path for path, content in contents.items() if is_preset(path, content)]
    return {path.relative_to(config).with_suffix("").as_posix(): path for path in files}


def _extended(path: Path, name: object) -> Path:
    """The file of the preset that a file extends."""
    config = next((folder for folder in path.parents if folder.name == CONFIG.name), path.parent)
    presets = preset_files(config)
    if not isinstance(name, str) or name not in presets:
        raise UserError(f"{path}: extends = {name!r}: no such preset in {config}/{suggest(str(name), presets)}")
    return presets[name]


def chain_of(path: Path) -> list[tuple[Path, dict]]:
    """A preset's file and those that it extends, up to the last, each with its content.

    Raises UserError for a file that cannot be read, and for presets that extend each other in a circle.
    """
    chain: list[tuple[Path, dict]] = []
    base: Path | None = path
    while base is not None:
        if base in [file for file, _ in chain]:
            raise UserError(f"{path}: extends: {base} extends itself, directly or through other presets.")
        content = read_yaml(base)
        chain.append((base, {key: value for key, value in content.items() if key != "extends"}))
        base = _extended(base, content["extends"]) if "extends" in content else None
    return chain


def writes_to(chain: list[tuple[Path, dict]]) -> str | None:
    """The folder of results that a preset's file, or one that it extends, names."""
    return next((str(content["results"]) for _, content in chain if "results" in content), None)


def _without_nulls(merged: dict) -> tuple[dict, list[str]]:
    """A preset without its null entries, which leave out what it would inherit, and their names."""
    left_out = [
        f"{section}.{name}"
        for section in SECTIONS
        if isinstance(merged.get(section), dict)
        for name, entry in merged[section].items()
        if entry is None
    ]
    kept = {
        key: {n: e for n, e in value.items() if e is not None} if key in SECTIONS and isinstance(value, dict) else value
        for key, value in merged.items()
    }
    return kept, left_out


def _only(merged: dict, own: dict, path: Path) -> dict:
    """A preset with only those results that a file gives itself or names in `shows`; the others are null.

    Raises UserError for a name that the preset does not have.
    """
    if not all(isinstance(merged.get(key) or {}, dict) for key in RESULTS):
        return merged  # which is reported when it is validated
    shown, names = merged["shows"], ["claims"]
    names += [name for key in RESULTS for name in merged.get(key) or ()]
    if not isinstance(shown, list):
        raise UserError(
            f"{path}: shows = {shown!r}: must be a list of names of tables, figures and timings, or the word claims."
        )
    for name in shown:
        if name not in names:
            raise UserError(f"{path}: shows = {name!r}: no such table, figure or timing{suggest(str(name), names)}")

    def kept(key: str) -> dict:
        stay = {*map(str, shown), *(own.get(key) or ())}
        return {name: entry if name in stay else None for name, entry in merged[key].items()}

    claims = merged.get("claims") if "claims" in shown or "claims" in own else None
    return {**merged, **{key: kept(key) for key in RESULTS if isinstance(merged.get(key), dict)}, "claims": claims}


def load_preset(path: Path) -> Preset:
    """The preset in a YAML file; `extends: fsp/mini` takes config/fsp/mini.yaml as the base that the file changes.

    Raises UserError, naming file, key and value, for anything that is not a valid preset.
    """
    return preset_of(chain_of(path))


def preset_of(chain: list[tuple[Path, dict]]) -> Preset:
    """The preset of a file and those that it extends, named after its folder of results; raises UserError likewise."""
    path = chain[0][0]
    merged: dict = {}
    for file, content in reversed(chain):
        merged = merge({key: value for key, value in merged.items() if key != "shows"}, content)
        if merged.get("shows") is not None:
            merged = _only(merged, content, file)
    merged, left_out = _without_nulls(merged)
    inside = str(merged.get("results", "")).removeprefix("results").strip("/")
    given = {**merged, "name": inside.replace("/", "-") or path.stem, "left_out": tuple(left_out)}
    for key in SET_BY_LOADER:
        if key in merged:
            raise UserError(f"{path}: {key} = {merged[key]!r}: unknown key; remove it or correct its name.")
    preset = _validated(given, chain)
    made_from: dict[str, str] = {}
    if preset.alternatives:
        try:
            given, made_from = laid_out(given, preset)
        except ValueError as error:
            raise UserError(f"{path}: {error}.") from None
        preset = _validated(given, chain, made_from)
    if found := [as_written(problem, made_from) for problem in problems(preset)]:
        told = [
            problem for problem in found if not problem.startswith("alternatives.")
        ] or found  # which repeat those of their row
        more = [f"and {len(told) - MOST} more like these"] if len(told) > MOST else []
        text = f"{_where(told[0].partition(':')[0].partition(' ')[0], chain)}: {'; '.join([*told[:MOST], *more])}"
        raise UserError(text if text.endswith("?") else f"{text}.")
    return preset


def _validated(content: dict, chain: list[tuple[Path, dict]], made_from: dict[str, str] | None = None) -> Preset:
    """The preset with that content; raises UserError with the text of `explain`."""
    try:
        return Preset.model_validate(content)
    except ValidationError as error:
        raise UserError(explain(error, chain, content, made_from)) from None
