"""
Tables, figures, time comparisons, verdicts on claims, and the summary of a preset.

Needs:  metrics, manifests and test predictions of the nets that they show; the published numbers; for a time comparison
        the packed data, and the weights of teachers, or of the nets that infer; for a figure of matrices both too
Makes:  <results>/<table>.csv, .md, .html, .tex, and its metrics, <results>/metrics/<table>/<row>.json;
        <results>/<figure>.png, .svg, .csv, and _flat.csv of curves; <results>/<timing>.csv, .html;
        <results>/claims.csv, .md, .html; a picture of each table and of the claims, .png, .svg;
        <results>/summary.html
"""

from fspkd.workflow.names import names_of_pictures
from fspkd.workflow.results import FIGURES, ResultRules

RESULTS = ResultRules(PLANS, workflow)


rule table:
    input:
        unpack(RESULTS.inputs("table")),
        script="scripts/make_table.py",
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
        metrics=directory("{results}/metrics/{table}"),
    log:
        "{results}/logs/{table}.log",
    wildcard_constraints:
        table=names_in(PLANS, "tables", below=("", "metrics/")),
    retries: 0  # runs where snakemake does
    localrule: True
    params:
        quietly=quietly,
        decided_by=RESULTS.decided_by("table"),
    message:
        "write {output.csv}"
    shell:
        "python {input.script:q} {output.csv:q} 2>&1 | tee -i {log:q} {params.quietly}"


# A figure's files of numbers depend on its kind.
for kind, numbers in FIGURES.items():

    rule:
        name:
            f"figure_{kind}"
        input:
            unpack(RESULTS.inputs("figure")),
            script="scripts/make_figure.py",
        output:
            png="{results}/{figure}.png",
            svg=report(
                "{results}/{figure}.svg",
                caption=f"../report/{kind}.rst",
                category="Figures",
                labels={"preset": "{results}", "figure": "{figure}"},
            ),
            numbers=[f"{{results}}/{{figure}}{end}" for end in numbers],
        log:
            "{results}/logs/{figure}.log",
        wildcard_constraints:
            figure=names_in(PLANS, "figures", kind),
        retries: 0  # runs where snakemake does
        localrule: True
        params:
            quietly=quietly,
            decided_by=RESULTS.decided_by("figure"),
        message:
            "draw {output.png}"
        shell:
            "python {input.script:q} {output.png:q} 2>&1 | tee -i {log:q} {params.quietly}"


rule timing:
    input:
        unpack(RESULTS.inputs("timing")),
        script="scripts/measure_timing.py",
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
    threads: lambda wildcards: workflow.cores if workflow.local_exec else 1  # locally, nothing else may run beside it
    resources:
        **ON_GPU,
    params:
        quietly=quietly,
        decided_by=RESULTS.decided_by("timing"),
    message:
        "measure {output.csv}"
    shell:
        "python {input.script:q} {output.csv:q} 2>&1 | tee -i {log:q} {params.quietly}"


rule claims:
    input:
        unpack(RESULTS.inputs("claims")),
        script="scripts/judge_claims.py",
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
    localrule: True
    params:
        quietly=quietly,
        decided_by=RESULTS.decided_by("claims"),
    message:
        "write {output.csv}"
    shell:
        "python {input.script:q} {output.csv:q} 2>&1 | tee -i {log:q} {params.quietly}"


rule picture:
    input:
        unpack(RESULTS.picture_inputs),
        script="scripts/draw_picture.py",
    output:
        png="{results}/{picture}.png",
        svg=report(
            "{results}/{picture}.svg",
            caption="../report/picture.rst",
            category="Pictures",
            labels={"preset": "{results}", "table": "{picture}"},
        ),
    log:
        "{results}/logs/{picture}_picture.log",
    wildcard_constraints:
        picture=names_of_pictures(PLANS),
    retries: 0  # runs where snakemake does
    localrule: True
    params:
        quietly=quietly,
        decided_by=RESULTS.picture_decided_by,
    message:
        "draw {output.png}"
    shell:
        "python {input.script:q} {output.png:q} 2>&1 | tee -i {log:q} {params.quietly}"


rule summary:
    input:
        unpack(RESULTS.inputs("summary")),
        script="scripts/write_summary.py",
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
    localrule: True
    params:
        quietly=quietly,
        decided_by=RESULTS.decided_by("summary"),
    message:
        "write {output}"
    shell:
        "python {input.script:q} {output:q} 2>&1 | tee -i {log:q} {params.quietly}"
