"""How a finding moves from one study of a patient to the next, for every population."""

from dataclasses import replace

import numpy as np

from components.preprocess.phantom.state import Finding


def persist(
    rng: np.random.Generator, old: Finding, *, progresses: bool, lowest: float = 0.15, highest: float = 1.0
) -> Finding:
    """Let a finding get worse, stay, or get better. Less than .08 either way counts as stable."""
    if not progresses:
        return replace(old, change="stable")
    draw = rng.random()
    step = rng.uniform(0.1, 0.4)
    if draw < 0.35 and old.severity + step <= highest:
        return replace(old, severity=rounded(old.severity + step), change="worse")
    if draw > 0.65 and old.severity - step >= lowest:
        return replace(old, severity=rounded(old.severity - step), change="better")
    wobble = np.clip(old.severity + rng.uniform(-0.07, 0.07), lowest, highest)
    return replace(old, severity=rounded(wobble), change="stable")


def same_place(finding: Finding, among: tuple[Finding, ...]) -> Finding | None:
    """Return the finding of the same name at the same place."""
    key = (finding.name, finding.side, finding.zone)
    return next((other for other in among if (other.name, other.side, other.zone) == key), None)


def rounded(severity: float) -> float:
    return round(float(severity), 3)
