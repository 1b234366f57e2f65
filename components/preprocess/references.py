"""Which other report of the same patient a study is trained with: the reference of stages 2 and 3.

The paper says "a different study of the same patient", which admits reports of the future; those often describe the
target itself ("compared with the earlier film the effusion has grown"). The default takes the past alone. Where
patients have no history the reference is the report of the most similar training image, see `similar`.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from model.records import ReferencePolicy


@dataclass(frozen=True, kw_only=True)
class DatedReport:
    """A report with usable findings, and when its study was taken (None when that is not known)."""

    study_id: str
    patient_id: str
    taken_at: datetime | None
    findings: str


def default_policy(has_history: bool, preset_policy: ReferencePolicy) -> ReferencePolicy:
    """Return the preset's policy, or `similar` for a source whose patients have no earlier reports to take."""
    return preset_policy if has_history or preset_policy == "none" else "similar"


def choose_references(
    reports: Sequence[DatedReport], policy: ReferencePolicy, *, seed: int = 0
) -> dict[str, DatedReport | None]:
    """Return the reference of every study by study_id, None where the policy finds none.

    prior_only: the latest study strictly earlier.  nearest: the least distance in time, in either direction.
    any: one other study of the patient, drawn from (seed, study_id).  none: nothing.
    similar: nothing yet; `similar.choose` fills it once the images are read.
    """
    by_patient: dict[str, list[DatedReport]] = defaultdict(list)
    for report in sorted(reports, key=lambda report: report.study_id):
        by_patient[report.patient_id].append(report)
    return {report.study_id: _choose(report, by_patient[report.patient_id], policy, seed) for report in reports}


def _choose(
    target: DatedReport, patient: Sequence[DatedReport], policy: ReferencePolicy, seed: int
) -> DatedReport | None:
    others = [report for report in patient if report.study_id != target.study_id]
    if policy == "any":
        draw = hashlib.sha256(f"{seed}/{target.study_id}".encode()).digest()
        return others[int.from_bytes(draw[:8], "big") % len(others)] if others else None
    taken_at = target.taken_at
    dated = [(report.taken_at, report) for report in others if report.taken_at is not None]
    if policy in ("none", "similar") or taken_at is None:
        return None
    if policy == "prior_only":
        earlier = [(time, report) for time, report in dated if time < taken_at]
        return max(earlier, key=lambda pair: (pair[0], pair[1].study_id))[1] if earlier else None
    nearest = min(dated, key=lambda pair: (abs(pair[0] - taken_at), pair[0], pair[1].study_id), default=None)
    return nearest[1] if nearest else None
