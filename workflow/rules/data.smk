"""
Packs each data set once into one file.

Needs:  what the data set's source names, or the place that FSPKD_DATA_<NAME> names on this machine
Makes:  data/<name>/<hash>.npz
"""


rule pack_data:
    input:
        script=ancient("scripts/pack_data.py"),
    output:
        "data/{name}/{hash}.npz",
    log:
        "results/logs/pack_data-{name}-{hash}.log",
    retries: 0  # runs where snakemake does
    conda:
        ENVIRONMENT
    message:
        "pack the data set {wildcards.name}"
    shell:
        "python {input.script:q} {output:q} 2>&1 | tee -i {log:q}"
