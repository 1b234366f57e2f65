"""The data report: one HTML page that shows what a data set holds and what was left out of it, and why."""

from components.preprocess.data_report.counts import Counts
from components.preprocess.data_report.page import page
from components.preprocess.source import SourceAbout


class Report(Counts):
    """Counts studies as they stream by with `add` and `exclude`; `html` may be called once all were added."""

    def html(self, *, name: str, about: SourceAbout, image_size: int) -> str:
        """Return the page. The same studies in the same order give the same bytes: no time and no machine is in it."""
        return page(self, name=name, about=about, image_size=image_size)
