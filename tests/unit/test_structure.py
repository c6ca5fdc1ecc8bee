"""Where things are in the code, as far as nothing else would notice a move."""

import re
from pathlib import Path

from conftest import REPOSITORY

from fspkd.runs.folder import RunFolder

CODE = ("src", "scripts", "workflow", "Snakefile", "benchmarks", "dvc.yaml")


def files_of_a_run() -> dict[str, str]:
    """The names of the files in a run's folder, by RunFolder's properties."""
    folder = RunFolder(Path("phase/run"))
    properties = [name for name, kind in vars(RunFolder).items() if isinstance(kind, property)]
    paths = {name: getattr(folder, name) for name in properties if name not in ("lock", "is_training")}
    return {name: path.name for name, path in paths.items() if isinstance(path, Path)}


def test_only_the_run_folder_knows_its_files() -> None:
    names = files_of_a_run().values()
    assert len(names) == 10
    pattern = re.compile("|".join(map(re.escape, names)))
    found = [
        file for place in CODE for file in [REPOSITORY / place, *(REPOSITORY / place).rglob("*")] if file.is_file()
    ]
    texts = {file: file.read_text() for file in found if file.suffix not in (".pyc", ".png")}
    knowing = {str(file.relative_to(REPOSITORY)) for file, text in texts.items() if pattern.search(text)}
    assert knowing == {"src/fspkd/runs/folder.py"}


def test_dvc_keeps_what_a_run_leaves_to_others_and_nothing_else() -> None:
    files, outputs = files_of_a_run(), {file.name for file in RunFolder(Path()).outputs(stage=2)}
    kept = {*outputs, *(files[name] for name in ("manifest", "specification", "journal", "usage"))}
    ignored = (REPOSITORY / ".dvcignore").read_text().split()
    assert set(files.values()) - kept == set(files.values()) & set(ignored)
