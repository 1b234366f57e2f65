"""The model card: what the model is for, what it was trained on, what was measured. Generated from the manifest."""

from typing import Any

from components.register.gate import worse_line
from components.register.numbers import FULL, label, metric, score, show

INTENDED_USE = (
    "Research and demonstration of grounded report drafting for frontal chest radiographs. Every output is a **draft** "
    "that a radiologist must review. Not a medical device; not for diagnosis or treatment."
)
SYNTHETIC = (
    "**Trained on synthetic phantoms.** It has never seen a patient; nothing it writes about a real radiograph is "
    "clinically meaningful."
)

HELD = {True: "held", False: "**not held**"}


def agreement(name: str) -> str:
    return f"**Trained on data under: {name}.** These weights may go no further than that agreement allows."


def model_card(manifest: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """Write the card as markdown."""
    gate = manifest["gate"]
    arms = (FULL, *(control["arm"] for control in gate["controls"]))
    lines = [
        f"# {manifest['name']} {manifest['version']}",
        "",
        INTENDED_USE,
        "",
        *([SYNTHETIC, ""] if manifest["synthetic"] else []),
        *([agreement(manifest["use_agreement"]), ""] if manifest["use_agreement"] else []),
        "## Trained on",
        f"Data set `{manifest['trained_on']}`, digest `{manifest['dataset_digest']}`, preset `{manifest['preset']}`.",
        "",
        "## Measured",
        f"`{metric(evaluation)}` on the test split, 95 % intervals over patients; more in `evaluation.json`.",
        "",
        "| report by | score |",
        "|---|---|",
        *(f"| {label(evaluation, arm)} | {show(score(evaluation, arm))} |" for arm in arms),
        "",
        f"Evidence maps: {manifest['evidence_status']}.",
        "",
        *gate_lines(gate),
        "## Made by",
        f"Commit `{manifest['git_commit']}`, checkpoint `{manifest['checkpoint_uri']}`, {manifest['created_at']}.",
        "",
        "| library | version |",
        "|---|---|",
        *(f"| {name} | {version} |" for name, version in manifest["libraries"].items()),
    ]
    return "\n".join(lines) + "\n"


def gate_lines(gate: dict[str, Any]) -> list[str]:
    """The gate's decision with the numbers it rests on."""
    verdict = "passed." if gate["passed"] else f"**not passed**: {'; '.join(gate['lost'])}."
    beaten = [control["label"] for control in gate["controls"] if control["beaten"]]
    return [
        "## Release gate",
        f"Decision: {verdict} Thresholds: `gate.yaml` with SHA-256 `{gate['thresholds_sha256'][:12]}`.",
        "",
        f"Beaten with intervals apart: {'; '.join(beaten) or 'none'}.",
        "",
        "| number | value | floor | |",
        "|---|---|---|---|",
        *(
            f"| `{floor['metric']}` | {show(floor)} | {floor['floor']:g} | {HELD[floor['held']]} |"
            for floor in gate["floors"]
        ),
        "",
        *serving_lines(gate["serving"]),
        "",
    ]


def serving_lines(serving: dict[str, Any]) -> list[str]:
    """How the version compares with the one that was served when it was made."""
    if not serving["compared"]:
        return [f"Not compared with a served version: {serving['why_not']}."]
    return [
        f"Paired with the served version on the same test studies (p after Holm, level {serving['alpha']:g}):",
        "",
        *(f"- {worse_line(serving, compared)}" for compared in serving["metrics"]),
    ]
