"""Whether the nets of a table, and those they depend on, come from the same code and the same kind of machine."""

from collections import Counter

from fspkd.plan import Plan
from fspkd.result import Result
from fspkd.runs.spec import Run, made_anew, with_origins


def warnings(plan: Plan, name: str) -> list[str]:
    """What a reader of a table has to know about how its nets were made; empty if all were made alike."""
    runs = [run for run in with_origins(Result(plan, "table", name).runs) if run.folder.is_finished]
    return [text for text in (_different_code(runs), _different_kinds(runs), _different_weights(runs)) if text]


def _different_code(runs: list[Run]) -> str | None:
    versions: dict[str, dict[str, list[str]]] = {}  # by part of the code
    for run in runs:
        own = {"method": run.spec.method.method, "network": " and ".join(sorted(run.architectures))}
        own["optimizer"] = run.spec.training.optimizer.algorithm
        for attempt in run.folder.read_manifest().attempts:
            for part, version in attempt.code_sha256.items():
                versions.setdefault(own.get(part, part), {}).setdefault(version[:10], []).append(run.id)
    parts = [
        f"{part} {version}: {', '.join(dict.fromkeys(runs))}"
        for part, found in versions.items()
        if len(found) > 1
        for version, runs in found.items()
    ]
    if not parts:
        return None
    return f"warning: these nets were trained by different versions of the code ({'; '.join(parts)})"


def _different_kinds(runs: list[Run]) -> str | None:
    """For each machine property that decides bits, what most nets had, and which had another, if only for a while."""
    had: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        for attempt in run.folder.read_manifest().attempts:
            for what, value in attempt.kind.items():
                had.setdefault(what, {}).setdefault(value, []).append(run.id)
    parts = []
    for what, by_value in had.items():
        (usual, _), *others = Counter({value: len(set(ids)) for value, ids in by_value.items()}).most_common()
        told = [f"{value} in {', '.join(dict.fromkeys(by_value[value]))}" for value, _ in others]
        parts += [f"{what}: {usual}, but {'; '.join(told)}"] if told else []
    if not parts:
        return None
    return f"warning: these nets were computed on different kinds of machines ({'; '.join(parts)})"


def _different_weights(runs: list[Run]) -> str | None:
    """Which nets learnt or started from other weights than those of the net that is there, as exported nets may have."""
    parts = [f"{run.id} from another {source.id}" for run in runs for source in made_anew(run)]
    return f"warning: these nets were made from others than those here ({'; '.join(parts)})" if parts else None
