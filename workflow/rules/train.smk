"""
Trains one net through one stage.

Needs:  the packed data; the weights of the net that it starts from, and of its teacher
Makes:  <results>/runs/<run>/: weights.pt, metrics.csv, manifest.json, predictions.npz of a last stage

The checkpoint beside them is no output of the rule, so that a job that was killed goes on where it was.
"""


rule train_stage1:
    input:
        unpack(training_inputs),
        script=ancient("scripts/train.py"),
    output:
        weights="{results}/runs/{stage1_run}/weights.pt",
        metrics="{results}/runs/{stage1_run}/metrics.csv",
        manifest="{results}/runs/{stage1_run}/manifest.json",
    log:
        "{results}/logs/{stage1_run}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=1,
    params:
        folder=lambda wildcards, output: Path(output.weights).parent,
        iterations=lambda wildcards: run_of(wildcards).iterations,
        method=lambda wildcards: run_of(wildcards).spec.method.method,
    message:
        "train {params.folder}: {params.iterations} iterations of {params.method}"
    shell:
        "python {input.script:q} {params.folder:q} --threads {threads} 2>&1 | tee -i {log:q}"


use rule train_stage1 as train_stage2 with:
    output:
        weights="{results}/runs/{stage2_run}/weights.pt",
        metrics="{results}/runs/{stage2_run}/metrics.csv",
        manifest="{results}/runs/{stage2_run}/manifest.json",
        predictions="{results}/runs/{stage2_run}/predictions.npz",
    log:
        "{results}/logs/{stage2_run}.log",
