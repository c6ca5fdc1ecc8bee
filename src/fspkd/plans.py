"""The plans of all presets, or of the one that writes to a folder of results, and what is wrong with the others.

Imports no torch.
"""

from collections.abc import Collection
from pathlib import Path

from fspkd.config.load import CONFIG, EXTENDED, chain_of, preset_files, preset_of, writes_to
from fspkd.errors import UserError
from fspkd.plan import Plan

TOLD = 3  # invalid presets named in a message


def load_plans(only: Collection[str] | None = None) -> tuple[dict[str, Plan], list[UserError]]:
    """The plans of all valid presets, by the folder of results that each writes, and what is wrong with the others.

    Presets come after those that they extend. With `only`, the plans of presets that write to one of these folders; others
    are not validated, which would take time. Raises UserError if none of all presets is valid.
    """
    paths = list(preset_files(CONFIG).values())
    if not paths:
        raise UserError(f"{CONFIG}: no presets here. Run this from the top folder of the repository.")
    problems = [
        UserError(f"{path}: a preset's file name must end in .yaml. Rename it.") for path in CONFIG.rglob("*.yml")
    ]
    found: list[tuple[int, Path, Plan]] = []
    for path in paths:
        try:
            chain = chain_of(path)
            if only is None or writes_to(chain) in only:
                found.append((len(chain), path, Plan(preset_of(chain))))
        except UserError as error:
            problems.append(error)
    plans: dict[str, Plan] = {}
    owners: dict[str, Path] = {}
    for _, path, plan in sorted(found, key=lambda item: item[:2]):
        where = f"{path}: results = {(results := plan.preset.results)!r}"
        other = next((o for o, p in plans.items() if p.preset.name == plan.preset.name), None)
        if results in plans:
            problems.append(UserError(f"{where}: {owners[results]} writes there already. Name another folder."))
        elif other:
            problems.append(
                UserError(
                    f"{where}: would name this preset {plan.preset.name!r}, like {owners[other]}, which writes to {other}. "
                    f"Name another folder."
                )
            )
        else:
            plans[results], owners[results] = plan, path
    # Presets that extend the same invalid one all report the same problem.
    problems = list({str(problem): problem for problem in problems}.values())
    if problems and not (plans or only):  # preferably the one that names the file with the mistake
        raise min(problems, key=lambda problem: EXTENDED in str(problem))
    return plans, problems


def not_found(message: str, problems: list[UserError]) -> UserError:
    """The error for what no valid preset has: the problems of presets that may have it, and the message.

    A mistake in a preset that others extend is reported once, and only a few of many problems are.
    """
    invalid = {str(problem).partition(":")[0] for problem in problems}
    told = [str(p) for p in problems if str(p).partition(EXTENDED)[2].partition(":")[0] not in invalid]
    more = f" And {len(told) - TOLD} more." if len(told) > TOLD else ""
    return UserError(f"{' '.join(told[:TOLD])}{more} Until this is corrected: {message}" if told else message)


def plan_for(results: Path) -> Plan:
    """The plan of the preset that writes to a folder of results; raises UserError if none does.

    Others may be invalid: somebody may be editing one while another trains.
    """
    plans, _ = load_plans(only={str(results)})
    if not plans:
        plans, problems = load_plans()
        message = f"{results}: no preset in {CONFIG}/ writes there; presets write to: {', '.join(plans)}."
        raise not_found(message, problems)
    return plans[str(results)]
