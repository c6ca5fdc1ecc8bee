"""
Tables, figures and time comparisons.

Needs:  metrics, manifests and test predictions of the nets that they show; the published numbers; for a time comparison
        the packed data and the teachers' weights
Makes:  <results>/<table>.csv, .md, .tex, .json; <results>/<figure>.png, .svg, .csv; <results>/<timing>.csv
"""


rule table:
    input:
        script="scripts/make_table.py",
        code=PACKAGE / "tables.py",
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
        metrics="{results}/{table}.json",
    log:
        "{results}/logs/{table}.log",
    retries: 0  # runs where snakemake does
    conda:
        ENVIRONMENT
    params:
        settings=lambda wildcards: PLANS[wildcards.results]
        .preset.tables[wildcards.table]
        .model_dump_json(),
        runs=lambda wildcards: [run.id for run in all_runs(result_runs(wildcards))],
    message:
        "write {output.csv}"
    shell:
        "python {input.script:q} {output.csv:q} 2>&1 | tee -i {log:q}"


rule figure:
    input:
        script="scripts/make_figure.py",
        code=PACKAGE / "figures.py",
        metrics=lambda wildcards: [
            f"{run.folder}/metrics.csv" for run in result_runs(wildcards)
        ],
        manifests=lambda wildcards: [
            f"{run.folder}/manifest.json" for run in all_runs(result_runs(wildcards))
        ],
    output:
        png="{results}/{figure}.png",
        svg="{results}/{figure}.svg",
        curves="{results}/{figure}.csv",
    log:
        "{results}/logs/{figure}.log",
    retries: 0  # runs where snakemake does
    conda:
        ENVIRONMENT
    params:
        settings=lambda wildcards: PLANS[wildcards.results]
        .preset.figures[wildcards.figure]
        .model_dump_json(),
        runs=lambda wildcards: [run.id for run in all_runs(result_runs(wildcards))],
    message:
        "draw {output.png}"
    shell:
        "python {input.script:q} {output.png:q} 2>&1 | tee -i {log:q}"


rule timing:
    input:
        script=ancient("scripts/measure_timing.py"),
        data=lambda wildcards: ancient(str(timed_nets(wildcards)[0].data.path)),
        teachers=lambda wildcards: sorted(
            {
                f"{net.start.teacher.folder}/weights.pt"
                for net in timed_nets(wildcards)
                if net.start
            }
        ),
        reference=lambda wildcards: PLANS[wildcards.results].reference(wildcards.timing),
    output:
        "{results}/{timing}.csv",
    log:
        "{results}/logs/{timing}.log",
    conda:
        ENVIRONMENT
    threads: lambda wildcards: workflow.cores if workflow.local_exec else 1  # here, nothing else may run beside it
    resources:
        **SITE.resources(),
    params:
        settings=lambda wildcards: PLANS[wildcards.results]
        .preset.timings[wildcards.timing]
        .model_dump_json(),
        runs=lambda wildcards: [run.id for run in all_runs(timed_nets(wildcards))],
    message:
        "measure {output}"
    shell:
        "python {input.script:q} {output:q} 2>&1 | tee -i {log:q}"
