"""
Packs each data set, and each file of pretrained weights, once into one file.

Needs:  what their sources name, or the place that FSPKD_DATA_<NAME> or FSPKD_WEIGHTS_<NAME> names on this machine
Makes:  data/packed/<name>/<hash>.npz, data/packed/<name>/<hash>.pt
"""

for kind, end, what in (
    ("data", "npz", "data set"),
    ("weights", "pt", "pretrained weights"),
):

    rule:
        name:
            f"pack_{kind}"
        input:
            script=ancient("scripts/pack.py"),
        output:
            f"data/packed/{{name}}/{{hash}}.{end}",
        log:
            f"results/logs/pack_{kind}-{{name}}-{{hash}}.log",
        retries: 0  # runs where snakemake does
        localrule: True
        params:
            quietly=quietly,
        message:
            f"pack the {what} {{wildcards.name}}"
        shell:
            "python {input.script:q} {output:q} 2>&1 | tee -i {log:q} {params.quietly}"
