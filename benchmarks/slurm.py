#!/usr/bin/env python
"""What SLURM and Snakemake add to the jobs' own run time: python benchmarks/slurm.py

Reads the newest log of `snakemake --profile slurm`, in the folder where that ran, SLURM's accounting, and the run times
that Snakemake measured. Start Snakemake with --resources gpu=N, N being the free GPUs, so that no job waits for one.
"""

import argparse
import re
import subprocess
from datetime import datetime
from pathlib import Path

import pandas as pd

TIME = r"\[(\w{3} \w{3} +\d+ [\d:]{8} \d{4})\]\n"


def time_of(text: str) -> datetime:
    return datetime.strptime(text, "%a %b %d %H:%M:%S %Y")


def overheads(log: Path) -> pd.DataFrame:
    """For each job, in seconds: from submission to start, from start to end, the script itself, and from submission
    until Snakemake has noticed the end; `added` is that minus the script."""
    text = log.read_text()
    submitted = dict(re.findall(r"^Job (\d+) has been submitted with SLURM jobid (\d+)", text, re.MULTILINE))
    begun = {job: time_of(time) for time, job in re.findall(rf"{TIME}Job (\d+): train", text)}
    noticed = {job: time_of(time) for time, job in re.findall(rf"{TIME}Finished jobid: (\d+)", text)}
    scripts = dict(re.findall(r"^Job (\d+): train (\S+):", text, re.MULTILINE))
    rows = []
    for job, number in submitted.items():
        if job not in scripts or job not in noticed:
            continue
        command = ["sacct", "--allocations", "--noheader", "--parsable2", "--jobs", number, "--format=Start,End"]
        line = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
        start, end = map(datetime.fromisoformat, line.split("|"))
        run = Path(scripts[job])
        script = pd.read_csv(run.parents[2] / "logs" / f"{run.name}.tsv", sep="\t")["s"].iloc[-1]
        whole = (noticed[job] - begun[job]).total_seconds()
        queued, ran = (start - begun[job]).total_seconds(), (end - start).total_seconds()
        rows.append((run.name, queued, ran, script, whole, whole - script))
    return pd.DataFrame(rows, columns=["job", "queued", "ran", "script", "noticed", "added"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path, nargs="?", help="Snakemake's log (default: the newest in .snakemake/log)")
    args = parser.parse_args()
    frame = overheads(args.log or max(Path(".snakemake/log").glob("*.log"), key=lambda path: path.stat().st_mtime))
    print(frame.to_string(index=False, float_format="%.1f"))
    added = frame["added"]
    print(
        f"\n{len(frame)} jobs; seconds added per job: {added.median():.1f} (median), {added.max():.1f} (most); in all: "
        f"{added.sum():.0f}"
    )


if __name__ == "__main__":
    main()
