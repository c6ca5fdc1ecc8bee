"""The logger plugin, which Snakemake finds by this package's name (`logger: fspkd` in profiles/default/config.yaml)."""

from fspkd.terminal import LogHandler

__all__ = ["LogHandler"]
