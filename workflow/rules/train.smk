"""
Trains nets, each through one stage; a job trains up to MEMBERS of them side by side on one device.

Needs:  the packed data; the weights of the nets that they start from, and of their teachers
Makes:  <results>/runs/<phase>/<run>/: weights.pt, metrics.csv, manifest.json, predictions.npz of a last stage

The checkpoint beside them is no output of the rule, so that a job that was killed goes on where it was. The rules are
made from the plan, since one job's outputs lie in folders with nothing in common. Outputs are updated, not removed: the
script knows a complete run by its checksums, so another grouping of runs, or one that fails, costs the others nothing.
"""


def training_inputs(runs):
    """The packed data, and the weights that runs start from and learn from."""
    data = runs[0].data
    needed = [other for run in runs for other in (run.start, run.teacher) if other]
    return {
        # Pinned content is part of a run's name; other images may have been packed anew from the same place.
        "data": ancient(str(data.path)) if data.settings.sha256 else str(data.path),
        "weights": list(dict.fromkeys(f"{run.folder}/weights.pt" for run in needed)),
    }


def training_message(runs):
    return "\n".join(
        f"train {run.folder}: {run.iterations} iterations of {run.spec.method.method}"
        for run in runs
    )


for plan in PLANS.values():
    for runs in plan.jobs(MEMBERS):

        rule:
            name:
                f"train__{plan.preset.name}__{runs[0].spec.stream.replace('-', '__')}"
            input:
                **training_inputs(runs),
                script=ancient("scripts/train.py"),
            output:
                [update(file) for run in runs for file in run_outputs(run)],
            log:
                f"{plan.preset.results}/logs/{runs[0].id}.log",
            benchmark:
                f"{plan.preset.results}/logs/{runs[0].id}.tsv"
            conda:
                ENVIRONMENT
            threads: 1
            resources:
                **SITE.resources(),
            params:
                folders=lambda wildcards, output: list(
                    dict.fromkeys(str(Path(file).parent) for file in output)
                ),
            message:
                training_message(runs)
            shell:
                "python {input.script:q} {params.folders:q} --threads {threads} --checkpoint-seconds {resources.checkpoint_seconds} 2>&1"
                " | tee -i {log:q}"


for plan in PLANS.values():

    rule:
        name:
            f"{plan.preset.name}_data"
        input:
            [ancient(str(data.path)) for data in plan.data.values()],
            [
                ancient(f"{weights.folder}/weights.pt")
                for weights in plan.pretrained.values()
            ],
        localrule: True
        message:
            "all packed data and pretrained weights of a preset"

    for phase in PHASES:

        rule:
            name:
                f"{plan.preset.name}_{phase}"
            input:
                [file for run in plan.phase(phase) for file in run_outputs(run)],
            localrule: True
            message:
                "all nets of a phase"
