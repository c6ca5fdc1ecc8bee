"""The JSON schemas of presets and of claims, with which editors check them, complete their keys and show what these mean.

They are made from the models, each of a preset's in two forms: whole and, with the suffix Part, as a file that extends
another may give it.
JSON schema's draft 7 is the newest that editors' YAML plugins read.
"""

import json
from collections.abc import Callable

from fspkd.config.load import CONFIG
from fspkd.config.preset import SECTIONS, SET_BY_LOADER, Preset
from fspkd.config.results import Claims

SCHEMA, CLAIMS_SCHEMA = CONFIG / "schema.json", CONFIG / "claims.schema.json"
DRAFT = "http://json-schema.org/draft-07/schema#"
PART = "Part"
LINE = 120
EXTENDS = {
    "description": "the preset that this file changes, by its path in config/ without .yaml, such as fsp/mini",
    "type": "string",
}
LEFT_OUT = {"description": "leaves out the inherited entry of that name", "type": "null"}


def models() -> dict[str, dict]:
    """pydantic's schemas of the models of a preset, by name, without the keys that are not part of a file."""
    preset = Preset.model_json_schema()
    found = preset.pop("$defs")
    for key in SET_BY_LOADER:
        del preset["properties"][key]
    preset["required"] = [key for key in preset["required"] if key not in SET_BY_LOADER]
    return {**found, Preset.__name__: preset}


def claims_models() -> dict[str, dict]:
    """The same for a file of claims."""
    claims = Claims.model_json_schema()
    return {**claims.pop("$defs"), Claims.__name__: claims}


def claims_schema() -> dict:
    """The schema of a file of claims."""
    whole = {name: _whole(model) for name, model in claims_models().items()}
    return {"$schema": DRAFT, **whole.pop(Claims.__name__), "$defs": whole}


def preset_schema() -> dict:
    """The schema of a preset's file."""
    whole = {name: _whole(model) for name, model in models().items()}
    for key in SECTIONS:
        section = whole[Preset.__name__]["properties"][key]
        section["additionalProperties"] = {"anyOf": [section["additionalProperties"], LEFT_OUT]}
    parts = {f"{name}{PART}": _part(model) for name, model in whole.items()}
    extending = parts[f"{Preset.__name__}{PART}"]
    del extending["description"]
    extending["properties"] = {"extends": EXTENDS, **extending["properties"]}
    schema = {
        "$schema": DRAFT,
        "description": whole[Preset.__name__].pop("description").split("\n\n")[0],
        "type": "object",
        "properties": {"extends": EXTENDS},
        "if": {"required": ["extends"]},
        "then": {"$ref": f"#/$defs/{Preset.__name__}{PART}"},
        "else": {"$ref": f"#/$defs/{Preset.__name__}"},
    }
    used = json.dumps([schema, whole, parts])
    return {**schema, "$defs": {n: s for n, s in {**whole, **parts}.items() if f'"#/$defs/{n}"' in used}}


def schema_text(schema: dict) -> str:
    """The content of a schema's file."""
    return _folded(schema) + "\n"


def _folded(value: object, depth: int = 0) -> str:
    """JSON in which each value that fits on one line is on one line."""
    line = json.dumps(value, ensure_ascii=False)
    if depth + len(line) <= LINE or not isinstance(value, dict | list):
        return line
    inner = [_folded(part, depth + 1) for part in (value.values() if isinstance(value, dict) else value)]
    if isinstance(value, dict):
        inner = [f"{json.dumps(key)}: {text}" for key, text in zip(value, inner, strict=True)]
    lines = ",\n".join(" " * (depth + 1) + text for text in inner)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{lines}\n{' ' * depth}{closing}"


def _inside(schema: dict, change: Callable[[dict], dict]) -> dict:
    """A schema with the schemas inside it changed, except those of conditions (`if`)."""
    changed = dict(schema)
    for key, value in schema.items():
        match key:
            case "properties" | "patternProperties":
                changed[key] = {name: change(inner) for name, inner in value.items()}
            case "anyOf" | "allOf":
                changed[key] = [change(inner) for inner in value]
            case "items" | "then" | "additionalProperties" if isinstance(value, dict):
                changed[key] = change(value)
    return changed


def _whole(schema: dict) -> dict:
    """pydantic's schema in draft 7, and as strict as the program: the names of entries are checked, and tags decide."""
    schema = _inside(schema, _whole)
    schema.pop("title", None)  # repeats the key's name
    if "description" in schema:
        schema["description"] = joined(schema["description"])
    if "patternProperties" in schema:
        ((pattern, entry),) = schema.pop("patternProperties").items()
        schema["propertyNames"]["pattern"] = pattern
        schema["additionalProperties"] = entry
    if "part_of" in schema:
        return {"$ref": f"#/$defs/{schema['part_of']}{PART}"}
    if "prefixItems" in schema:
        schema["items"] = schema.pop("prefixItems")
    if "discriminator" in schema:
        del schema["oneOf"]
        union = schema.pop("discriminator")
        schema |= _by_tag(union["propertyName"], union["mapping"])
    return schema


def _by_tag(tag: str, members: dict[str, str]) -> dict:
    """A union with a tag, as conditions: editors then report mistakes for the tagged member only, not for all."""

    def is_member(value: str) -> dict:
        return {"required": [tag], "properties": {tag: {"const": value}}}

    return {
        "type": "object",
        "required": [tag],
        "properties": {tag: {"enum": list(members)}},
        "allOf": [{"if": is_member(value), "then": {"$ref": reference}} for value, reference in members.items()],
    }


def _part(schema: dict) -> dict:
    """What a file that extends another may give: mappings are merged, so any of their keys; all else is replaced whole."""
    if schema.get("type") == "array":
        return schema
    part = _inside({k: v for k, v in schema.items() if k not in ("required", "minProperties", "default")}, _part)
    if "$ref" in part:
        part["$ref"] = part["$ref"].removesuffix(PART) + PART
    if "allOf" in part:  # a union: without its tag, the keys of the inherited member, whichever that is
        members = [case["then"] for case in part["allOf"]]
        without_tag = {"not": {"required": schema["required"]}}
        part["allOf"] = [*part["allOf"], {"if": without_tag, "then": {"anyOf": members}}]
    return part


def joined(text: str) -> str:
    """A text of several lines with each paragraph on one line."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
