"""The reports that the gateway gave out: one SQLite file.

One image and one model version make one report, however often it is sent: the second answer is the stored one.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from model.records import Report

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS reports ("
    "report_id TEXT PRIMARY KEY, created_at TEXT NOT NULL, report TEXT NOT NULL, radiograph_png BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS images ("
    "image TEXT NOT NULL, model_sha256 TEXT NOT NULL, report_id TEXT NOT NULL REFERENCES reports, "
    "PRIMARY KEY (image, model_sha256))",
)


class ReportStore:
    """Reports by id, and by (image, model). Each call opens the file anew: it may come from any thread."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self.path = path
        with self._transaction() as db:
            for statement in SCHEMA:
                db.execute(statement)

    def find(self, image: str, model_sha256: str) -> Report | None:
        """The report of this model on this image."""
        with self._transaction() as db:
            return _find(db, [image], model_sha256)

    def add(self, report: Report, radiograph_png: bytes, images: Sequence[str]) -> Report:
        """Keep a report under all names of its image and return it, or the one that was kept first.

        Two requests with the same image may arrive together: both get the same report.
        """
        model = report.model.sha256
        with self._transaction() as db:
            kept = _find(db, images, model)
            if kept is None:
                row = (report.report_id, datetime.now(UTC).isoformat(), report.model_dump_json(), radiograph_png)
                db.execute("INSERT INTO reports VALUES (?, ?, ?, ?)", row)
                kept = report
            names = [(image, model, kept.report_id) for image in images]
            db.executemany("INSERT OR IGNORE INTO images VALUES (?, ?, ?)", names)
        return kept

    def get(self, report_id: str) -> tuple[Report, bytes] | None:
        """A report and its radiograph as PNG, by id."""
        with self._transaction() as db:
            query = "SELECT report, radiograph_png FROM reports WHERE report_id = ?"
            row = db.execute(query, (report_id,)).fetchone()
        return (Report.model_validate_json(row[0]), row[1]) if row else None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self.path, timeout=10, isolation_level=None)
        try:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        finally:
            db.close()  # rolls back what was not committed


def _find(db: sqlite3.Connection, images: Sequence[str], model_sha256: str) -> Report | None:
    for image in images:
        query = "SELECT report FROM reports JOIN images USING (report_id) WHERE image = ? AND model_sha256 = ?"
        row = db.execute(query, (image, model_sha256)).fetchone()
        if row:
            return Report.model_validate_json(row[0])
    return None
