"""
What the rules are made from.

PLANS maps a folder of results to the plan of the preset that writes it; PROBLEMS are those with presets, and stop only
what these make. OF_DVC is the plan of the preset in params.yaml, SITE what jobs request of a SLURM site, and MEMBERS how
many nets a training job trains side by side.
"""

import os

from snakemake.exceptions import WorkflowError

from fspkd.errors import UserError
from fspkd.plans import load_plans
from fspkd.provenance import HUGE_PAGES
from fspkd.slurm.site import load_site
from fspkd.terminal import quietly
from fspkd.workflow.dvc import dvc_plan
from fspkd.workflow.names import names_in, one_of
from fspkd.workflow.training import members_of

os.environ.setdefault(*HUGE_PAGES)  # for all jobs

try:
    MEMBERS = members_of(config)
    PLANS, PROBLEMS = load_plans()
    OF_DVC, SITE = dvc_plan(PLANS), load_site()
except UserError as error:
    raise WorkflowError(str(error))


wildcard_constraints:
    results=one_of(PLANS),
    timing=names_in(PLANS, "timings"),
