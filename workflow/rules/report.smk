"""
Tables and figures.

Needs:  metrics, manifests and test predictions of the nets that they show; a table's published numbers
Makes:  <results>/<table>.csv, .md, .tex and <results>/<figure>.png, .svg
"""


rule table:
    input:
        script="scripts/make_table.py",
        predictions=lambda wildcards: [
            f"{run.folder}/predictions.npz" for run in result_runs(wildcards)
        ],
        manifests=lambda wildcards: [
            f"{run.folder}/manifest.json" for run in all_runs(result_runs(wildcards))
        ],
        reference=lambda wildcards: PLANS[wildcards.results].reference(wildcards.table),
    output:
        csv="{results}/{table}.csv",
        markdown="{results}/{table}.md",
        latex="{results}/{table}.tex",
    log:
        "{results}/logs/{table}.log",
    conda:
        ENVIRONMENT
    params:
        settings=lambda wildcards: PLANS[wildcards.results]
        .preset.tables[wildcards.table]
        .model_dump_json(),
    message:
        "write {output.csv}"
    shell:
        "python {input.script:q} {output.csv:q} 2>&1 | tee -i {log:q}"


rule figure:
    input:
        script="scripts/make_figure.py",
        metrics=lambda wildcards: [
            f"{run.folder}/metrics.csv" for run in result_runs(wildcards)
        ],
        manifests=lambda wildcards: [
            f"{run.folder}/manifest.json" for run in all_runs(result_runs(wildcards))
        ],
    output:
        png="{results}/{figure}.png",
        svg="{results}/{figure}.svg",
    log:
        "{results}/logs/{figure}.log",
    conda:
        ENVIRONMENT
    params:
        settings=lambda wildcards: PLANS[wildcards.results]
        .preset.figures[wildcards.figure]
        .model_dump_json(),
    message:
        "draw {output.png}"
    shell:
        "python {input.script:q} {output.png:q} 2>&1 | tee -i {log:q}"
