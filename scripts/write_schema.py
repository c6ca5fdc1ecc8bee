#!/usr/bin/env python
"""Write the schemas of presets and of claims for editors, and the page about their keys: python scripts/write_schema.py"""

import argparse

from fspkd.config.page import PAGE, page
from fspkd.config.schema import CLAIMS_SCHEMA, SCHEMA, claims_schema, preset_schema, schema_text
from fspkd.errors import run_command
from fspkd.files import write_atomically


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    schemas = {SCHEMA: preset_schema(), CLAIMS_SCHEMA: claims_schema()}
    # All, before one is written.
    texts = {PAGE: page(), **{path: schema_text(schema) for path, schema in schemas.items()}}
    for path, text in texts.items():
        write_atomically(path, text.encode())


if __name__ == "__main__":
    run_command(main)
