"""What Snakemake finds by its name: how a workflow is told (`logger: fspkd` in profiles/default/config.yaml)."""

from fspkd.terminal import LogHandler

__all__ = ["LogHandler"]
