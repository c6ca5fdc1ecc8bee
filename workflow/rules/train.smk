"""
Trains nets, each through one stage; a job trains up to MEMBERS of them side by side on one device.

Needs:  the packed data; the weights of the nets that they start from, and of their teachers
Makes:  results/runs/<phase>/<run>/: weights, metrics, a manifest, predictions of a last stage

The checkpoint beside them is not an output of the rule, so that a killed job resumes where it was. Outputs are updated,
not removed: the script knows a complete run by its checksums, so another grouping of runs, or one that fails, costs the
others nothing.
"""

from fspkd.runs.folder import PHASES
from fspkd.workflow.dvc import packed_files, phase_outputs
from fspkd.workflow.training import mend_failures, training_rules

mend_failures()

for training in training_rules(PLANS.values(), MEMBERS):

    rule:
        name:
            training.name
        input:
            unpack(training.inputs),
            script=ancient("scripts/train.py"),
        output:
            [update(file) for file in training.outputs],
        log:
            f"results/logs/{training.first}.log",
        benchmark:
            f"results/logs/{training.first}.tsv"
        wildcard_constraints:
            run=training.runs,
        threads: 1
        resources:
            **ON_GPU,
        params:
            arguments=training.arguments,
            message=training.message,
            quietly=quietly,
        message:
            "{params.message}"
        shell:
            "python {input.script:q} {params.arguments:q} --threads {threads}"
            " --checkpoint-seconds {resources.checkpoint_seconds} 2>&1 | tee -i {log:q} {params.quietly}"


# The phases of dvc.yaml, of the preset that params.yaml names.
if plan := OF_DVC:

    rule:
        name:
            "data"
        input:
            packed_files(plan),
        localrule: True
        message:
            "all packed data and pretrained weights of DVC's preset"

    for phase in PHASES:

        rule:
            name:
                phase
            input:
                phase_outputs(plan, phase),
            localrule: True
            message:
                "all nets of a phase of DVC's preset"
