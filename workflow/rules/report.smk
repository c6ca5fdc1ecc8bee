"""
Tables, figures, time comparisons, verdicts on claims, and the summary of a preset.

Needs:  metrics, manifests and test predictions of the nets that they show; the published numbers; for a time comparison
        the packed data and the teachers' weights
Makes:  <results>/<table>.csv, .md, .html, .tex, .json; <results>/<figure>.png, .svg, .csv, _flat.csv;
        <results>/<timing>.csv, .html; <results>/claims.csv, .md, .html; <results>/summary.html
"""


rule table:
    input:
        script="scripts/make_table.py",
        code=[*PAGES, *code("engine/evaluate", "results/stats", "results/tables")],
        predictions=lambda wildcards: [
            f"{run.folder}/predictions.npz" for run in result_runs(wildcards)
        ],
        manifests=lambda wildcards: [
            f"{run.folder}/manifest.json" for run in all_runs(result_runs(wildcards))
        ],
        reference=lambda wildcards: PLANS[wildcards.results].reference(wildcards.table)
        or [],
    output:
        csv="{results}/{table}.csv",
        markdown="{results}/{table}.md",
        latex="{results}/{table}.tex",
        html=report(
            "{results}/{table}.html",
            caption="../report/table.rst",
            category="Tables",
            labels={"preset": "{results}", "table": "{table}"},
        ),
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
        code=code("results/curves"),
        metrics=lambda wildcards: [
            f"{run.folder}/metrics.csv" for run in result_runs(wildcards)
        ],
        manifests=lambda wildcards: [
            f"{run.folder}/manifest.json" for run in all_runs(result_runs(wildcards))
        ],
    output:
        png="{results}/{figure}.png",
        svg=report(
            "{results}/{figure}.svg",
            caption="../report/figure.rst",
            category="Figures",
            labels={"preset": "{results}", "figure": "{figure}"},
        ),
        curves="{results}/{figure}.csv",
        flat="{results}/{figure}_flat.csv",
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
        script="scripts/measure_timing.py",
        code=code("results/training_time"),  # and not PAGES, which are not worth another measurement
        data=lambda wildcards: ancient(str(timed_nets(wildcards)[0].data.path)),
        teachers=lambda wildcards: sorted(
            {
                f"{net.stage1.teacher.folder}/weights.pt"
                for net in timed_nets(wildcards)
                if net.stage1
            }
        ),
        reference=lambda wildcards: PLANS[wildcards.results].reference(wildcards.timing),
    output:
        csv="{results}/{timing}.csv",
        html=report(
            "{results}/{timing}.html",
            caption="../report/timing.rst",
            category="Time",
            labels={"preset": "{results}", "comparison": "{timing}"},
        ),
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
        "measure {output.csv}"
    shell:
        "python {input.script:q} {output.csv:q} 2>&1 | tee -i {log:q}"


rule claims:
    input:
        script="scripts/judge_claims.py",
        code=[*PAGES, *code("engine/evaluate", "results/stats", "results/tables", "results/claims")],
        claims="config/claims.yaml",
        references=lambda wildcards: [
            file
            for table in PLANS[wildcards.results].preset.tables
            if (file := PLANS[wildcards.results].reference(table))
        ],
        predictions=lambda wildcards: [
            f"{run.folder}/predictions.npz" for run in table_runs(wildcards)
        ],
        measured=measured_results,
    output:
        csv="{results}/claims.csv",
        markdown="{results}/claims.md",
        html=report(
            "{results}/claims.html",
            caption="../report/claims.rst",
            category="Claims",
            labels={"preset": "{results}"},
        ),
    log:
        "{results}/logs/claims.log",
    wildcard_constraints:
        results=one_of(folder for folder, plan in PLANS.items() if plan.claims),
    retries: 0  # runs where snakemake does
    conda:
        ENVIRONMENT
    params:
        settings=shown_settings,
        runs=lambda wildcards: [run.id for run in table_runs(wildcards)],
    message:
        "write {output.csv}"
    shell:
        "python {input.script:q} {output.csv:q} 2>&1 | tee -i {log:q}"


rule summary:
    input:
        script="scripts/write_summary.py",
        code=[*PAGES, *code("results/summary")],
        results=lambda wildcards: result_files(PLANS[wildcards.results]),
    output:
        report(
            "{results}/summary.html",
            caption="../report/summary.rst",
            category="Summary",
            labels={"preset": "{results}"},
        ),
    log:
        "{results}/logs/summary.log",
    retries: 0  # runs where snakemake does
    conda:
        ENVIRONMENT
    params:
        settings=shown_settings,
        runs=lambda wildcards: [run.id for run in table_runs(wildcards)],
    message:
        "write {output}"
    shell:
        "python {input.script:q} {output:q} 2>&1 | tee -i {log:q}"
