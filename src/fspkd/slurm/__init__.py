"""What jobs request of a SLURM site, what its queue is doing, and corrections to Snakemake's executor. Imports no torch."""
