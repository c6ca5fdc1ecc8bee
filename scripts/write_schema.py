#!/usr/bin/env python
"""Write the schema of presets for editors, and the page about their keys: python scripts/write_schema.py"""

import argparse

from fspkd.config.page import PAGE, page
from fspkd.config.schema import SCHEMA, schema_text
from fspkd.errors import run_command
from fspkd.files import write_atomically


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    write_atomically(SCHEMA, schema_text().encode())
    write_atomically(PAGE, page().encode())


if __name__ == "__main__":
    run_command(main)
