"""Reading presets: YAML files that extend each other, and an explanation of what is wrong in them. Imports no torch."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fspkd.config.preset import Preset
from fspkd.errors import UserError
from fspkd.settings import suggest

TAGS = ("source", "method", "architecture")  # which settings there are beside one of these depends on its value


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice, which PyYAML would silently let the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict:
    """The mapping in a YAML file; raises UserError where there is none."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: must be a mapping of keys to values, and holds {type(content).__name__}.")
    return content


def _merge(base: Any, over: Any) -> Any:
    """`over` laid on `base`, mapping by mapping; anything else, or another source or method, replaces what was there."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    if any(isinstance(over.get(tag), str) and over[tag] != base.get(tag) for tag in TAGS):
        return over
    return {**base, **{key: _merge(base[key], value) if key in base else value for key, value in over.items()}}


def explain(error: ValidationError, chain: list[tuple[Path, dict]], merged: dict) -> str:
    """One paragraph for pydantic's findings: file, key, value, and what to do."""
    findings = []
    for item in error.errors():
        keys, content = [], merged
        for position, key in enumerate(item["loc"], 1):
            last = position == len(item["loc"])
            is_key = isinstance(content, list) or (isinstance(content, dict) and key in content)
            if is_key and isinstance(content, dict) and not last and not isinstance(content[key], dict | list):
                is_key = key not in content.values()  # a union's tag, though there is a key of that name
            if is_key or (last and item["type"] == "missing"):
                keys.append(str(key))  # what is no key is a union's tag, which pydantic puts in between
                content = content[key] if is_key else None
        value, advice = f" = {item['input']!r}", f"{item['msg'][0].lower()}{item['msg'][1:]}"
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
        file = next((path for path, content in chain if keys and keys[0] in content), chain[0][0])
        where = f" {'.'.join(keys)}{value}:" if keys else ""
        findings.append(f"{file}:{where} {advice}")
    return ". ".join(findings) + "."


def _extended(path: Path, name: object) -> Path:
    """The file of the preset that one extends."""
    presets = sorted(file.stem for file in path.parent.glob("*.yaml"))
    if name not in presets:
        raise UserError(f"{path}: extends = {name!r}: no such preset beside it{suggest(str(name), presets)}")
    return path.with_name(f"{name}.yaml")


def load_preset(path: Path) -> Preset:
    """The preset in a YAML file; `extends: NAME` takes NAME.yaml beside it as the base that the file changes.

    Raises UserError, naming file, key and value, for anything that is not a valid preset.
    """
    chain: list[tuple[Path, dict]] = []  # from the preset to its last base
    base: Path | None = Path(path)
    while base is not None:
        if base in [file for file, _ in chain]:
            raise UserError(f"{path}: extends: {base} extends itself, by way of the presets that it extends.")
        content = read_yaml(base)
        chain.append((base, content))
        base = _extended(base, content.pop("extends")) if "extends" in content else None
    merged: dict = {}
    for _, content in reversed(chain):
        merged = _merge(merged, content)
    merged["name"] = Path(path).stem
    try:
        return Preset.model_validate(merged)
    except ValidationError as error:
        raise UserError(explain(error, chain, merged)) from None
