"""
Trains nets, each through one stage; a job trains up to MEMBERS of them side by side on one device.

Needs:  the packed data; the weights of the nets that they start from, and of their teachers
Makes:  results/runs/<phase>/<run>/: weights, metrics, a manifest, predictions of a last stage

The checkpoint beside them is no output of the rule, so that a job that was killed goes on where it was. The rules are
made from the plans, since one job's outputs lie in folders with nothing in common. Outputs are updated, not removed: the
script knows a complete run by its checksums, so another grouping of runs, or one that fails, costs the others nothing.
"""

for plan, runs in training_jobs(PLANS.values(), MEMBERS):

    rule:
        name:
            training_rule(runs)
        input:
            **training_inputs(runs),
            script=ancient("scripts/train.py"),
        output:
            [update(file) for run in runs for file in run_outputs(run)],
        log:
            f"results/logs/{runs[0].id}.log",
        benchmark:
            f"results/logs/{runs[0].id}.tsv"
        threads: 1
        resources:
            **SITE.resources(),
        params:
            arguments=training_arguments(plan),
        message:
            training_message(runs)
        shell:
            "python {input.script:q} {params.arguments:q} --threads {threads}"
            " --checkpoint-seconds {resources.checkpoint_seconds} 2>&1 | tee -i {log:q}"


for plan in PLANS.values():

    rule:
        name:
            f"{plan.preset.name}_data"
        input:
            packed_files(plan),
        localrule: True
        message:
            "all packed data and pretrained weights of a preset"

    for phase in PHASES:

        rule:
            name:
                f"{plan.preset.name}_{phase}"
            input:
                phase_outputs(plan, phase),
            localrule: True
            message:
                "all nets of a phase"
