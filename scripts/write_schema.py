#!/usr/bin/env python
"""Write the schemas of presets and of claims for editors, and the page about their keys: python scripts/write_schema.py"""

import argparse

from fspkd.config.page import PAGE, page
from fspkd.config.schema import CLAIMS_SCHEMA, SCHEMA, claims_schema, preset_schema, schema_text
from fspkd.errors import run_command
from fspkd.files import write_atomically


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    write_atomically(SCHEMA, schema_text(preset_schema()).encode())
    write_atomically(CLAIMS_SCHEMA, schema_text(claims_schema()).encode())
    write_atomically(PAGE, page().encode())


if __name__ == "__main__":
    run_command(main)
