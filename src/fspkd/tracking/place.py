"""Which runs of an MLflow store this folder has sent: several may send to one server."""

from collections.abc import Iterable
from pathlib import Path

from mlflow.entities import Run

from fspkd.tracking.store import Store

PLACE = "sent_from"  # a tag: the folder, the same from any machine


class Place:
    """This folder, and the identities of its nets, rows and tables in a store to which another may have sent the same.

    If several folders send the same identity, the first keeps it; the others append their folder to it.
    """

    def __init__(self, store: Store) -> None:
        self.store, self.name = store, f"{Path.cwd()}, inode {Path.cwd().stat().st_ino}"
        self.nets: dict[str, str] = {}  # identities, by the ids of runs
        self.apart: set[str] = set()  # rows for which another place has sent other nets under the same names

    def has_sent(self, tracked: Run) -> bool:
        """Whether a tracked run was sent from here or names no place."""
        return tracked.data.tags.get(PLACE, self.name) == self.name

    def own(self, identity: str) -> str:
        """That identity with this folder appended."""
        return f"{identity}, from {self.name}"

    def of_net(self, name: str, started: int, row: str | None) -> str:
        """The identity of a net whose training started at that time; if it is not `name`, `row` is kept apart."""
        held = self.store.runs.get(name)
        is_the_same = held is not None and held.info.start_time == started
        is_anothers = held is not None and not self.has_sent(held)
        if is_the_same or not (is_anothers or self.own(name) in self.store.runs):
            self.nets[name] = name
        else:
            self.nets[name] = self.own(name)
            self.apart |= {row} if row else set()
        return self.nets[name]

    def of_rows(self, identity: str, rows: Iterable[str]) -> str:
        """The identity of rows, or of what shows them; this folder's own if another has it and rows are apart."""
        held = self.store.runs.get(identity)
        is_anothers = held is not None and not self.has_sent(held) and self.apart.intersection(rows)
        return self.own(identity) if is_anothers else identity
