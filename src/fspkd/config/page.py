"""The page docs/presets.md: every key of a preset and of its claims, its type, default and meaning, from the models."""

import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from pydantic import TypeAdapter

from fspkd.config.merge import discriminators
from fspkd.config.preset import SECTIONS, Preset
from fspkd.config.results import Claims
from fspkd.config.schema import EXTENDS, claims_models, joined, models
from fspkd.errors import UserError
from fspkd.settings import Identifier

PAGE = Path("docs/presets.md")
HEADER = ("| key | type | default | meaning |", "| --- | --- | --- | --- |")
OPENING = """\
# Presets

A preset is a YAML file in `config/` that says what is computed. This page lists every key of a preset and, at the end, those
of a [file of claims](#the-file-of-claims). `make schema` generates it, and the schemas `config/schema.json` and
`config/claims.schema.json`, from the models that the program validates such files with. If the first line of a file is
`# yaml-language-server: $schema=schema.json` (with the path from the file's folder to the schema), an editor with a YAML
plugin marks mistakes, completes keys and shows what they mean.

## Files that extend others

```yaml
extends: fsp/mini                  # config/fsp/mini.yaml, which may extend another
results: results/mine
training: {{batch_size: 64}}         # the other keys of `training` stay
rows:
  student:
    stage1: {{weight: 0.5}}          # so do the other keys of that stage
schedules:
  fsp: [{{until: 11000, rate: 0.1}}] # a list is replaced as a whole
tables: {{table2: null}}             # left out
```

- A file with `extends` gives only what it changes. Mappings are merged key by key, at any depth; numbers, texts and lists
  are replaced.
- Where {tags} changes to another value, the mapping that contains it is replaced as a whole.
- In keys that hold *entries by name*, `null` instead of an entry leaves it out. Whatever refers to the entry must be changed
  too; claims about a table, figure or time comparison that is left out are not judged. A single line of an inherited table,
  or curve of a figure, cannot be left out: leave out the whole table or figure, and add one under another name.
- A file without `extends` gives every key that has no default.
- Within a file, YAML's anchors and merge key work: `kd5: {{<<: *bp5, stage2: ...}}` is the entry marked `&bp5` with `stage2`
  replaced as a whole.

A *name* is lower-case letters and digits, with single underscores between them. Keys with a dot are keys of a mapping:
`optimizer.momentum` is `optimizer: {{momentum: ...}}`; or of each mapping in a list. Numbers may be written as 1e-4.

The schema sees only one file, and each value on its own. The program checks the rest before anything runs: that entries
which others refer to exist, that numbers increase or divide where they must, and that a `depth` is 6n+2.
"""
CLAIMS = """
## The file of claims

The key `claims` of a preset names a file in `config/`, which may have any name. It holds claims, from a paper or your own,
about the preset's tables, figures and time comparisons:

<!-- config/lab/claims.yaml -->

```yaml
# yaml-language-server: $schema=../claims.schema.json
claims:
  - claim: A student that learns FSP matrices first beats one that learns a hint
    where: section 5, table 1      # of your paper
    compare: rows
    table: table1                  # of the preset
    value: average
    more: Student*                 # labels of that table
    less: FitNet, 1 loss*
    more_than: 0.5                 # percentage points; without it, above 0
  - claim: Its ensemble is about as good as the teacher's
    where: section 5, table 1
    compare: rows
    table: table1
    value: ensemble
    more: Student*
    less: Teacher
    within: 0.5                    # percentage points, on either side
```

With `claims: lab/claims.yaml` in the preset, `snakemake <results>/claims.csv` judges them;
[statistics.md](statistics.md) says when a claim counts as reproduced. All claims of a file share the probability of a wrong
verdict, so each one added makes the others harder to decide. A file without `results` and `extends` that a preset names as
its claims, or that has only the key `claims`, is not taken for a preset.
"""


def page() -> str:
    """The page."""
    return "\n".join(Page().lines()) + "\n"


class Page:
    """The page's lines; `models` has the models' schemas by name."""

    def __init__(self) -> None:
        self.models = {**claims_models(), **models()}
        _check_documented(self.models)
        self.preset = self.models[Preset.__name__]
        self.name_pattern = TypeAdapter(Identifier).json_schema()["pattern"]

    def lines(self) -> Iterator[str]:
        keys = self.preset["properties"]
        parts = [key for key, schema in keys.items() if key in SECTIONS or "$ref" in schema]
        yield OPENING.format(tags=_listed(sorted(discriminators(Preset)), "or"))
        yield "## The keys of a preset"
        extends = ("extends", "text", "none", _cell(EXTENDS["description"]))
        others = {key: schema for key, schema in keys.items() if key not in parts}
        yield from _table([extends, *self.rows({**self.preset, "properties": others})])
        for key in parts:
            yield from self.part(key)
        yield CLAIMS.removesuffix("\n")
        claim = self.models[Claims.__name__]["properties"]["claims"]["items"]
        yield from self.union(claim["discriminator"], "###")

    def part(self, key: str) -> Iterator[str]:
        """A key whose value has keys of its own: a model, or entries by name."""
        schema = self.preset["properties"][key]
        about = [_sentence(schema["description"])]
        if key not in self.preset["required"]:
            about.append("Optional.")
        entry = schema
        if key in SECTIONS:
            (entry,) = schema["patternProperties"].values()
            about.append("Entries by name." if "$ref" in entry else f"Entries by name: {self.words(entry)}.")
        reference = entry.get("items", entry).get("$ref")
        if reference:
            about.append(_sentence(self.model(reference)["description"]))
        yield from ("", f"## `{key}`", "", " ".join(dict.fromkeys(about)))
        if union := _union(entry):
            yield from self.union(union, "###")
        elif reference:
            yield from self.table_of(self.model(reference))

    def table_of(self, model: dict) -> Iterator[str]:
        """The keys of a model, and below them those of the unions in it."""
        yield from _table(self.rows(model))
        yield from self.unions_of(model, model["properties"], "###")

    def unions_of(self, model: dict, keys: Collection[str], heading: str) -> Iterator[str]:
        """The keys of the unions that some keys of a model hold."""
        found: dict[str, dict] = {}
        holding: dict[str, list[str]] = {}
        for key, schema in model["properties"].items():
            if key in keys and (union := _union(schema)):
                found[union["propertyName"]] = union
                holding.setdefault(union["propertyName"], []).append(key)
        for tag, union in found.items():
            yield from ("", f"{heading} {_listed(holding[tag], 'and')}")
            yield from self.union(union, f"{heading}#")

    def union(self, union: dict, heading: str) -> Iterator[str]:
        """The keys that all members of a union have, then those of each under its tag's value."""
        tag, members = union["propertyName"], {v: self.model(ref) for v, ref in union["mapping"].items()}
        rows = {value: list(self.rows(model)) for value, model in members.items()}
        first, *others = rows.values()
        shared = [row for row in first if all(row in other for other in others)]
        meaning = next(iter(members.values()))["properties"][tag]["description"]
        yield from _table([(tag, _listed(list(members), "or"), "required", _cell(meaning)), *shared])
        yield from self.unions_of(next(iter(members.values())), [key for key, *_ in shared], heading)
        for value, model in members.items():
            yield from ("", f"{heading} `{tag}: {value}`", "", _sentence(model["description"]))
            if own := [row for row in rows[value] if row not in shared and row[0] != tag]:
                yield from _table(own)

    def rows(self, model: dict, before: str = "") -> Iterator[tuple[str, str, str, str]]:
        """Name, type, default and meaning of each key of a model, and of the models in it."""
        for key, schema in model["properties"].items():
            required = key in model.get("required", ())
            reference = schema.get("items", schema).get("$ref")
            inner = self.model(reference) if reference else None
            default = "required" if required else "those of its keys" if inner else _value(schema.get("default"))
            yield (f"{before}{key}", self.words(schema), default, _cell(schema["description"]))
            if inner:
                yield from self.rows(inner, f"{before}{key}.")

    def words(self, schema: dict) -> str:
        """A type in words."""
        match schema:
            case {"const": value}:
                return _value(value)
            case {"enum": values}:
                return _listed(values, "or")
            case {"anyOf": [inner, {"type": "null"}]}:
                return f"{self.words(inner)}, or `null`"
            case {"anyOf": members}:
                return " or ".join(map(self.words, members))
            case {"discriminator": {"propertyName": tag}}:
                return f"mapping, whose `{tag}` says which other keys it has"
            case {"type": "array"}:
                return self.words_of_list(schema)
            case {"type": "integer"}:
                return f"whole number{_limits(schema)}"
            case {"type": ["number", "string"]}:
                return f"number{_limits(schema)}"
            case {"pattern": pattern, "patternErrorMessage": message}:
                return "name" if pattern == self.name_pattern else _cell(message.removeprefix("must be "))
            case {"part_of": model}:
                return f"keys of a {model.lower()}"
            case {"patternProperties": entries}:
                (of,) = entries.values()
                return f"mapping of names, each to {self.words(of)}"
            case {"type": "object", "additionalProperties": dict(of)}:
                return f"mapping of labels, each to {self.words(of)}"
            case {"type": "boolean"}:
                return "`true` or `false`"
            case {"type": "string"}:
                return "text"
        return "mapping"

    def words_of_list(self, schema: dict) -> str:
        if "prefixItems" in schema:
            return f"list of {len(schema['prefixItems'])}, each {self.words(schema['prefixItems'][0])}"
        return "list of mappings" if "$ref" in schema["items"] else f"list, each {self.words(schema['items'])}"

    def model(self, reference: str) -> dict:
        return self.models[reference.rpartition("/")[2]]


def _check_documented(found: dict[str, dict]) -> None:
    """Raise UserError for models and settings without a docstring."""
    entries = {**found}
    for name, model in found.items():
        entries |= {f"{name}.{key}": schema for key, schema in model.get("properties", {}).items()}
    if without := [name for name, schema in entries.items() if "description" not in schema]:
        raise UserError(f"{', '.join(without)}: no docstring, which {PAGE} shows. Write one below each.")


def _union(schema: dict) -> dict | None:
    """The discriminator of a schema that is a union, or a union or null."""
    return schema.get("anyOf", [schema])[0].get("discriminator")


def _table(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield ""
    yield from HEADER
    for key, *cells in rows:
        yield f"| {' | '.join([f'`{key}`', *cells])} |"


def _limits(schema: dict) -> str:
    """The limits of a number, such as ' from 0 to 9'."""
    match schema:
        case {"minimum": low, "maximum": high}:
            return f" from {low} to {high}"
        case {"minimum": low, "exclusiveMaximum": high}:
            return f" from {low} to below {high}"
        case {"exclusiveMinimum": low, "maximum": high}:
            return f" above {low}, at most {high}"
        case {"minimum": low}:
            return f", {low} or more"
        case {"exclusiveMinimum": low}:
            return f" above {low}"
    return ""


def _value(default: object) -> str:
    return f"`{default if default and isinstance(default, str) else json.dumps(default)}`"


def _listed(texts: list[str], word: str) -> str:
    """Such as `a`, `b` or `c`."""
    *most, last = [f"`{text}`" for text in texts]
    return f"{', '.join(most)} {word} {last}" if most else last


def _sentence(text: str) -> str:
    """A description as sentences."""
    text = _cell(" ".join(text.split())).removesuffix(".")
    return f"{text[0].upper()}{text[1:]}."


def _cell(text: str) -> str:
    """A text for a table; outside code, Markdown would take text in angle brackets for HTML."""
    parts = joined(text).replace("|", r"\|").split("`")
    return "`".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts))
