"""Which runs of an MLflow store are this folder's: several folders may send to one server."""

from collections.abc import Iterable
from pathlib import Path

from mlflow.entities import Run

from fspkd.tracking.store import Store

PLACE = "sent_from"  # a tag: the folder, the same one from whichever machine


class Place:
    """This folder, and what its nets, rows and tables are called in a store to which another one may have sent the same.

    What is called alike elsewhere keeps that name for whoever came first; the others' have their folder behind it.
    """

    def __init__(self, store: Store) -> None:
        self.store, self.name = store, f"{Path.cwd()}, inode {Path.cwd().stat().st_ino}"
        self.nets: dict[str, str] = {}  # identities, by the names of runs
        self.apart: set[str] = set()  # rows of which another place has sent other nets of the same names

    def has_sent(self, tracked: Run) -> bool:
        """Whether a tracked run was sent from here, as far as it says."""
        return tracked.data.tags.get(PLACE, self.name) == self.name

    def own(self, identity: str) -> str:
        """What is called by that identity elsewhere too."""
        return f"{identity}, from {self.name}"

    def of_net(self, name: str, started: int, row: str | None) -> str:
        """The identity of a net that was trained from a time on; a `row` whose net it is may have to be kept apart."""
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
        """The identity of rows, or of what shows them, that is called by another identity where nothing is apart."""
        held = self.store.runs.get(identity)
        is_anothers = held is not None and not self.has_sent(held) and self.apart.intersection(rows)
        return self.own(identity) if is_anothers else identity
