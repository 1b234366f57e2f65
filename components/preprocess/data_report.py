"""The data report: one HTML page that shows what a data set holds and what was left out of it, and why."""

from components.preprocess.facts import StudyFacts
from components.preprocess.source import Exclusion, SourceAbout


class Report:
    """Counts studies as they stream by; `html` may be called once all were added."""

    def add(self, facts: StudyFacts, image_png: bytes | None = None) -> None:
        """Count one study. image_png: its picture; give it for every study, the report keeps the few it shows."""

    def exclude(self, exclusion: Exclusion) -> None:
        """Count one study that was left out."""

    def html(self, *, name: str, about: SourceAbout, image_size: int) -> str:
        """Return the page. The same studies in any order give the same bytes: it holds no time and no machine."""
        return f"<!doctype html><title>{name}</title>"
