"""The model card: what the model is for, what it was trained on, what was measured. Generated from the manifest."""

from typing import Any

from components.register.gate import CONTROLS, FULL, label, metric, score, show

INTENDED_USE = (
    "Research and demonstration of grounded report drafting for frontal chest radiographs. Every output is a **draft** "
    "that a radiologist must review. Not a medical device; not for diagnosis or treatment."
)
SYNTHETIC = (
    "**Trained on synthetic phantoms.** It has never seen a patient; nothing it writes about a real radiograph is "
    "clinically meaningful."
)


def agreement(name: str) -> str:
    return f"**Trained on data under: {name}.** These weights may go no further than that agreement allows."


def model_card(manifest: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """Write the card as markdown."""
    gate = manifest["gate"]
    verdict = "passed" if gate["passed"] else "**not passed**: " + "; ".join(gate["lost"])
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
        *(f"| {label(evaluation, arm)} | {show(score(evaluation, arm))} |" for arm in (FULL, *CONTROLS)),
        "",
        f"Release gate: {verdict}.",
        "",
        f"Evidence maps: {manifest['evidence_status']}.",
        "",
        "## Made by",
        f"Commit `{manifest['git_commit']}`, checkpoint `{manifest['checkpoint_uri']}`, {manifest['created_at']}.",
        "",
        "| library | version |",
        "|---|---|",
        *(f"| {name} | {version} |" for name, version in manifest["libraries"].items()),
    ]
    return "\n".join(lines) + "\n"
