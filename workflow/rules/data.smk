"""
Packs each data set, and each file of pretrained weights, once into one file.

Needs:  what their sources name, or the place that FSPKD_DATA_<NAME> or FSPKD_WEIGHTS_<NAME> names on this machine
Makes:  data/packed/<name>/<hash>.npz, data/packed/<name>/<hash>.pt
"""


rule pack_data:
    input:
        script=ancient("scripts/pack_data.py"),
    output:
        "data/packed/{name}/{hash}.npz",
    log:
        "results/logs/pack_data-{name}-{hash}.log",
    retries: 0  # runs where snakemake does
    params:
        quietly=quietly,
    message:
        "pack the data set {wildcards.name}"
    shell:
        "python {input.script:q} {output:q} 2>&1 | tee -i {log:q} {params.quietly}"


rule pack_weights:
    input:
        script=ancient("scripts/pack_weights.py"),
    output:
        "data/packed/{name}/{hash}.pt",
    log:
        "results/logs/pack_weights-{name}-{hash}.log",
    retries: 0  # runs where snakemake does
    params:
        quietly=quietly,
    message:
        "pack the pretrained weights {wildcards.name}"
    shell:
        "python {input.script:q} {output:q} 2>&1 | tee -i {log:q} {params.quietly}"
