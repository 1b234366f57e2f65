"""What a run has done already, in the object store: planned batches, their rows, and a summary that commits each.

    <out>/staging/<run>/plan/<batch>.json    the planned studies
                       /rows/<batch>.parquet the converted ones
                       /done/<batch>.json    what came of it, written last; without it the batch does not count

<run> is a digest of everything that decides how a batch is converted (settings, the source's description, the code),
<batch> of the batch's plan. So a run that was killed goes on where it stopped, and a changed text, table, choice of
image, setting or line of code makes other batches. An image that was exchanged under its own name is noticed when it is
the first of its batch; after exchanging single images remove <out>/staging.
"""

from pathlib import Path

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from components.preprocess.facts import StudyFacts
from components.preprocess.plan import BATCH, Batch, PlannedBatch
from components.preprocess.source import Exclusion
from components.shared.storage import ObjectStore, join_uri
from model.errors import StoreMissing


@dataclass(frozen=True)
class Summary:
    """What came of a batch."""

    first_image_sha256: str  # of the bytes as they were loaded; "" when they could not be
    facts: list[StudyFacts]  # of the rows, in their order
    exclusions: list[Exclusion]


SUMMARY: TypeAdapter[Summary] = TypeAdapter(Summary)


class Staging:
    """One run's objects. Picklable."""

    def __init__(self, store: ObjectStore, uri: str) -> None:
        self.store = store
        self.uri = uri

    def plan(self, batch: PlannedBatch, data: bytes) -> None:
        self.store.put_bytes(self._at("plan", f"{batch.digest}.json"), data)

    def planned(self, digest: str) -> Batch:
        return BATCH.validate_json(self.store.get_bytes(self._at("plan", f"{digest}.json")))

    def commit(self, digest: str, rows: Path | None, summary: Summary) -> None:
        """rows: a Parquet file, None when no study of the batch could be used."""
        if rows:
            self.store.put_file(self._at("rows", f"{digest}.parquet"), rows)
        self.store.put_bytes(self._at("done", f"{digest}.json"), SUMMARY.dump_json(summary))

    def summary(self, digest: str) -> Summary | None:
        """What came of a batch, None when it was not finished."""
        try:
            data = self.store.get_bytes(self._at("done", f"{digest}.json"))
        except StoreMissing:
            return None
        return SUMMARY.validate_json(data)

    def fetch_rows(self, digest: str, folder: Path) -> Path:
        path = folder / f"{digest}.parquet"
        self.store.get_file(self._at("rows", f"{digest}.parquet"), path)
        return path

    def remove(self) -> None:
        self.store.remove_tree(self.uri)

    def _at(self, *parts: str) -> str:
        return join_uri(self.uri, *parts)
