"""
Packs each data set once into one file.

Needs:  what the data set's source names, or the place that FSPKD_DATA_<NAME> names on this machine
Makes:  data/<name>-<hash>.npz
"""


rule pack_data:
    input:
        script=ancient("scripts/pack_data.py"),
    output:
        "data/{data_set}.npz",
    log:
        "results/logs/pack_data-{data_set}.log",
    retries: 0  # runs where snakemake does
    conda:
        ENVIRONMENT
    message:
        "pack the data set {wildcards.data_set}"
    shell:
        "python {input.script:q} {output:q} 2>&1 | tee -i {log:q}"
